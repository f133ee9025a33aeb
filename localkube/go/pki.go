package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Ten years: a cluster for trying things out must not die of an old certificate.
const certificateLife = 10 * 365 * 24 * time.Hour

// identities are the client certificates of the cluster's own programs.
var identities = map[string]pkix.Name{
	"kubelet-client":     {CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}},
	"addons":             {CommonName: "localkube:addons", Organization: []string{"system:masters"}},
	"controller-manager": {CommonName: "system:kube-controller-manager"},
	"scheduler":          {CommonName: "system:kube-scheduler"},
	"kube-proxy":         {CommonName: "system:kube-proxy"},
}

// runPKI writes a cluster's certificates into a folder. What is already there
// stays, so a second run after a crash finishes the first one's work.
func runPKI() int {
	dir := flag.String("dir", "", "folder to write to")
	name := flag.String("name", "", "name of the cluster and of its node")
	hosts := flag.String("hosts", "", "addresses and names of the API server, separated by commas")
	flag.Parse()
	if err := writePKI(*dir, *name, strings.Split(*hosts, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "pki:", err)
		return 1
	}
	return 0
}

func writePKI(dir, name string, hosts []string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, caKey, err := authority(dir, name)
	if err != nil {
		return err
	}
	server := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if address := net.ParseIP(host); address != nil {
			server.IPAddresses = append(server.IPAddresses, address)
		} else {
			server.DNSNames = append(server.DNSNames, host)
		}
	}
	if err := issue(dir, "apiserver", server, ca, caKey); err != nil {
		return err
	}
	identities["kubelet"] = pkix.Name{CommonName: "system:node:" + name, Organization: []string{"system:nodes"}}
	for file, subject := range identities {
		client := &x509.Certificate{Subject: subject, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if err := issue(dir, file, client, ca, caKey); err != nil {
			return err
		}
	}
	return serviceAccountKey(dir)
}

func authority(dir, name string) (*x509.Certificate, crypto.Signer, error) {
	certFile, keyFile := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	if present(certFile) && present(keyFile) {
		return loadAuthority(certFile, keyFile)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	ca := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "localkube-" + name},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	if err := sign(ca, ca, key.Public(), key, certFile); err != nil {
		return nil, nil, err
	}
	if err := writeKey(keyFile, key); err != nil {
		return nil, nil, err
	}
	return loadAuthority(certFile, keyFile)
}

func loadAuthority(certFile, keyFile string) (*x509.Certificate, crypto.Signer, error) {
	certBlock, err := readPEM(certFile)
	if err != nil {
		return nil, nil, err
	}
	keyBlock, err := readPEM(keyFile)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(certBlock)
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParseECPrivateKey(keyBlock)
	return cert, key, err
}

func issue(dir, file string, template, ca *x509.Certificate, caKey crypto.Signer) error {
	certFile, keyFile := filepath.Join(dir, file+".crt"), filepath.Join(dir, file+".key")
	if present(certFile) && present(keyFile) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	if err := sign(template, ca, key.Public(), caKey, certFile); err != nil {
		return err
	}
	return writeKey(keyFile, key)
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, parentKey crypto.Signer, file string) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template.SerialNumber = serial
	// An hour back: the clocks of a host and of a virtual machine on it differ.
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = template.NotBefore.Add(certificateLife)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, parentKey)
	if err != nil {
		return err
	}
	return writePEM(file, "CERTIFICATE", der, 0o644)
}

func serviceAccountKey(dir string) error {
	keyFile, publicFile := filepath.Join(dir, "sa.key"), filepath.Join(dir, "sa.pub")
	if present(keyFile) && present(publicFile) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := writePEM(publicFile, "PUBLIC KEY", public, 0o644); err != nil {
		return err
	}
	return writeKey(keyFile, key)
}

func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(file, "EC PRIVATE KEY", der, 0o600)
}

// writePEM renames into place: a half-written key would pass for a present one.
func writePEM(file, kind string, der []byte, mode os.FileMode) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(file+".new", text, mode); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func readPEM(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New(file + " holds no PEM block; delete the folder and start again")
	}
	return block.Bytes, nil
}

func present(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
