package main

func (n *nodeProcess) part(name string, args ...string) component {
	return component{name: name, path: n.kubernetes + "/" + name, args: args}
}

func (n *nodeProcess) etcd() component {
	const clients, peers = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return n.part("etcd",
		"--data-dir="+n.path("etcd"),
		"--listen-client-urls="+clients, "--advertise-client-urls="+clients,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=default="+peers,
		"--unsafe-no-fsync", // nothing of it has to outlive the machine
	)
}

func (n *nodeProcess) apiServer() component {
	return n.part("kube-apiserver",
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address="+nodeIP, "--secure-port=6443",
		"--service-cluster-ip-range="+serviceRange,
		"--allow-privileged",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--client-ca-file="+n.path("pki/ca.crt"),
		"--tls-cert-file="+n.path("pki/kube-apiserver.crt"), "--tls-private-key-file="+n.path("pki/kube-apiserver.key"),
		"--kubelet-client-certificate="+n.path("pki/admin.crt"), "--kubelet-client-key="+n.path("pki/admin.key"),
		"--kubelet-certificate-authority="+n.path("pki/ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+n.path("pki/sa.pub"), "--service-account-signing-key-file="+n.path("pki/sa.key"),
	)
}

func (n *nodeProcess) controllerManager() component {
	c := n.part("kube-controller-manager",
		"--kubeconfig="+n.path("pki/kube-controller-manager.kubeconfig"),
		"--leader-elect=false", "--bind-address=127.0.0.1",
		"--use-service-account-credentials",
		"--service-account-private-key-file="+n.path("pki/sa.key"), "--root-ca-file="+n.path("pki/ca.crt"),
		"--cluster-signing-cert-file="+n.path("pki/ca.crt"), "--cluster-signing-key-file="+n.path("pki/ca.key"),
	)
	c.again = true
	return c
}

func (n *nodeProcess) scheduler() component {
	c := n.part("kube-scheduler",
		"--kubeconfig="+n.path("pki/kube-scheduler.kubeconfig"),
		"--leader-elect=false", "--bind-address=127.0.0.1",
	)
	c.again = true
	return c
}

func (n *nodeProcess) proxy() component {
	c := n.part("kube-proxy",
		"--kubeconfig="+n.path("pki/kube-proxy.kubeconfig"),
		"--hostname-override="+nodeName, "--proxy-mode=nftables", "--cluster-cidr="+podRange,
		// Limits of the whole machine: leave them.
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
	)
	c.again = true
	return c
}

func (n *nodeProcess) kubelet() component {
	return n.part("kubelet",
		"--config="+n.path("kubelet.yaml"), "--kubeconfig="+n.path("pki/kubelet.kubeconfig"),
		"--hostname-override="+nodeName, "--node-ip="+nodeIP,
	)
}

func (n *nodeProcess) dns() component {
	return component{name: "coredns", path: n.coredns, args: []string{"-conf", n.path("Corefile")}}
}
