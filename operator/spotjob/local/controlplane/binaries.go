//go:build tools

// Package controlplane pins the versions of the Kubernetes binaries that the local platform builds from source.
//
// Nothing here is compiled into SpotJob: the blank imports only keep these modules in go.mod and go.sum,
// so that `go build` of their main packages is reproducible.
package controlplane

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
