package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	provisioner    = "localkube.edgefleet.dev/folder"
	provisionedBy  = "pv.kubernetes.io/provisioned-by"
	betaClassField = "volume.beta.kubernetes.io/storage-class"
)

// volumes gives every claim of our storage class a folder on the one node.
type volumes struct {
	client  kubernetes.Interface
	root    string
	node    string
	classes map[string]bool
}

// serveVolumes runs until the process ends. Events only say that something
// changed: each one looks at everything, which a one-node cluster can afford.
func serveVolumes(kubeconfig, root, node, class string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	v := &volumes{client: client, root: root, node: node, classes: map[string]bool{class: true}}
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { notify() },
		UpdateFunc: func(any, any) { notify() },
		DeleteFunc: func(any) { notify() },
	}
	factory := informers.NewSharedInformerFactory(client, time.Minute)
	claims, held := factory.Core().V1().PersistentVolumeClaims(), factory.Core().V1().PersistentVolumes()
	for _, informer := range []cache.SharedIndexInformer{claims.Informer(), held.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	factory.Start(nil)
	factory.WaitForCacheSync(nil)
	for range changed {
		for _, each := range claims.Informer().GetStore().List() {
			v.report(v.provide(each.(*core.PersistentVolumeClaim)))
		}
		for _, each := range held.Informer().GetStore().List() {
			v.report(v.remove(each.(*core.PersistentVolume)))
		}
	}
	return nil
}

func (v *volumes) report(err error) {
	if err != nil {
		klog.ErrorS(err, "volume")
	}
}

func (v *volumes) provide(claim *core.PersistentVolumeClaim) error {
	class := claim.Annotations[betaClassField]
	if claim.Spec.StorageClassName != nil {
		class = *claim.Spec.StorageClassName
	}
	if !v.classes[class] || claim.Spec.VolumeName != "" || claim.Status.Phase != core.ClaimPending || claim.DeletionTimestamp != nil {
		return nil
	}
	name := "pvc-" + string(claim.UID)
	folder := filepath.Join(v.root, name)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	// Again, past the umask: a pod without fsGroup runs as whom it likes.
	if err := os.Chmod(folder, 0o777); err != nil {
		return err
	}
	mode := core.PersistentVolumeFilesystem
	volume := &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: provisioner}},
		Spec: core.PersistentVolumeSpec{
			Capacity:    core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			AccessModes: claim.Spec.AccessModes,
			VolumeMode:  &mode,
			// "local" and not hostPath: kubelet honours fsGroup for it.
			PersistentVolumeSource: core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: folder}},
			ClaimRef: &core.ObjectReference{
				Kind: "PersistentVolumeClaim", APIVersion: "v1",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeReclaimPolicy: core.PersistentVolumeReclaimDelete,
			StorageClassName:              class,
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{
				NodeSelectorTerms: []core.NodeSelectorTerm{{MatchExpressions: []core.NodeSelectorRequirement{{
					Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{v.node},
				}}}},
			}},
		},
	}
	_, err := v.client.CoreV1().PersistentVolumes().Create(context.Background(), volume, meta.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (v *volumes) remove(volume *core.PersistentVolume) error {
	ours := volume.Annotations[provisionedBy] == provisioner
	if !ours || volume.Status.Phase != core.VolumeReleased || volume.Spec.Local == nil || volume.DeletionTimestamp != nil {
		return nil
	}
	// The name is ours; the path is a field anyone may have written.
	if volume.Spec.Local.Path != filepath.Join(v.root, volume.Name) {
		return fmt.Errorf("volume %s points outside %s; delete it by hand", volume.Name, v.root)
	}
	if err := os.RemoveAll(volume.Spec.Local.Path); err != nil {
		return err
	}
	err := v.client.CoreV1().PersistentVolumes().Delete(context.Background(), volume.Name, meta.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
