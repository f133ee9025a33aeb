// Command localkube is every program of a small real Kubernetes cluster in one
// binary: the first argument (or the name it is called by) picks which one runs.
// One binary links the shared libraries of all of them once, so it builds in
// minutes and takes a fifth of the disk the separate programs would.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
	kine "github.com/k3s-io/kine/pkg/app"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// programs holds constructors, not commands: building every command would
// register every component's flags in one process.
var programs = map[string]func() int{
	"addons":                  runAddons,
	"etcd":                    runEtcd,
	"kine":                    runKine,
	"kube-apiserver":          withCobra(apiserver.NewAPIServerCommand),
	"kube-controller-manager": withCobra(controllers.NewControllerManagerCommand),
	"kube-proxy":              withCobra(proxy.NewProxyCommand),
	"kube-scheduler":          withCobra(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubectl":                 withCobra(kubectl.NewDefaultKubectlCommand),
	"kubelet":                 withCobra(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"pki":                     runPKI,
}

func main() {
	name := filepath.Base(os.Args[0])
	if _, known := programs[name]; !known && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		name = os.Args[0]
	}
	run, known := programs[name]
	if !known {
		names := make([]string, 0, len(programs))
		for each := range programs {
			names = append(names, each)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "localkube: say which program to run, one of: %s\n", strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Exit(run())
}

func withCobra(build func() *cobra.Command) func() int {
	return func() int { return cli.Run(build()) }
}

func runEtcd() int {
	etcdmain.Main(os.Args)
	return 0
}

func runKine() int {
	if err := kine.New().Run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "kine:", err)
		return 1
	}
	return 0
}

// runAddons is cluster DNS and the volume provisioner in one process: each
// process of this binary costs some 60 MB before it does anything.
func runAddons() int {
	kubeconfig := flag.String("kubeconfig", "", "credentials of the volume provisioner")
	root := flag.String("volumes", "", "folder that holds the volumes")
	node := flag.String("node", "", "name of the node")
	class := flag.String("storage-class", "", "storage class whose claims get a volume")
	flag.Parse()
	go func() {
		if err := serveVolumes(*kubeconfig, *root, *node, *class); err != nil {
			fmt.Fprintln(os.Stderr, "volumes:", err)
			os.Exit(1)
		}
	}()
	// A directive is only known to the parser when it is in this list, in
	// the order in which the plugins see a question.
	dnsserver.Directives = []string{
		"bind", "ready", "health", "errors", "cache", "template", "kubernetes", "forward",
	}
	coremain.Run()
	return 0
}
