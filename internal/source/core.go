package source

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// The checks and defaults of the API server for its own kinds, as far as this
// program reads the fields.

func finishNamespace(o object, _ *findings) {
	ns := o.(*corev1.Namespace)
	// Every cluster sets it, and selectors of allowedRoutes rely on it.
	if ns.Labels == nil {
		ns.Labels = map[string]string{}
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

func finishSecret(o object, f *findings) {
	s := o.(*corev1.Secret)
	if s.Type == "" {
		s.Type = corev1.SecretTypeOpaque
	}
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = make(map[string][]byte, len(s.StringData))
	}
	for k, v := range s.StringData {
		checkDataKey(f, "stringData", k)
		s.Data[k] = []byte(v)
	}
	s.StringData = nil
	for k := range s.Data {
		checkDataKey(f, "data", k)
	}
}

func finishConfigMap(o object, f *findings) {
	c := o.(*corev1.ConfigMap)
	for k := range c.Data {
		checkDataKey(f, "data", k)
	}
	for k := range c.BinaryData {
		checkDataKey(f, "binaryData", k)
		if _, twice := c.Data[k]; twice {
			f.add("binaryData["+k+"]", "is in data as well", "remove one of the two")
		}
	}
}

func checkDataKey(f *findings, path, key string) {
	if len(validation.IsConfigMapKey(key)) > 0 {
		f.add(path+"["+key+"]", "is not a valid key", "use only letters, digits, -, _ and .")
	}
}

func finishService(o object, f *findings) {
	s := o.(*corev1.Service)
	if s.Spec.Type == "" {
		s.Spec.Type = corev1.ServiceTypeClusterIP
	}
	names := map[string]bool{}
	for i := range s.Spec.Ports {
		p, path := &s.Spec.Ports[i], fmt.Sprintf("spec.ports[%d]", i)
		if p.Protocol == "" {
			p.Protocol = corev1.ProtocolTCP
		}
		if p.TargetPort == (intstr.IntOrString{}) {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
		checkPort(f, path+".port", p.Port)
		if p.TargetPort.Type == intstr.Int {
			checkPort(f, path+".targetPort", p.TargetPort.IntVal)
		}
		if p.Name == "" && len(s.Spec.Ports) > 1 {
			f.add(path+".name", "is required, since there is more than one port", "add it")
		}
		if names[p.Name] && p.Name != "" {
			f.add(path+".name", "is there twice", "rename one of the ports")
		}
		names[p.Name] = true
	}
}

func finishEndpointSlice(o object, f *findings) {
	s := o.(*discoveryv1.EndpointSlice)
	switch s.AddressType {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN:
	case "":
		f.add("addressType", "is required", "add it: IPv4, IPv6 or FQDN")
		return
	default:
		f.add("addressType", "is not supported", "write one of IPv4, IPv6, FQDN")
		return
	}
	for i := range s.Endpoints {
		addresses := s.Endpoints[i].Addresses
		if len(addresses) == 0 {
			f.add(fmt.Sprintf("endpoints[%d].addresses", i), "is required", "add it")
		}
		for j, a := range addresses {
			checkAddress(f, fmt.Sprintf("endpoints[%d].addresses[%d]", i, j), s.AddressType, a)
		}
	}
	for i := range s.Ports {
		p, path := &s.Ports[i], fmt.Sprintf("ports[%d]", i)
		if p.Name == nil {
			p.Name = new(string)
		}
		if p.Protocol == nil {
			tcp := corev1.ProtocolTCP
			p.Protocol = &tcp
		}
		if p.Port != nil {
			checkPort(f, path+".port", *p.Port)
		}
	}
}

func checkAddress(f *findings, path string, t discoveryv1.AddressType, address string) {
	if t == discoveryv1.AddressTypeFQDN {
		if len(validation.IsDNS1123Subdomain(strings.TrimSuffix(address, "."))) > 0 {
			f.add(path, "is not a DNS name", "correct the address, or addressType")
		}
		return
	}
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Zone() != "" || ip.Is4() != (t == discoveryv1.AddressTypeIPv4) {
		f.add(path, "is not an address of type "+string(t), "correct the address, or addressType")
	}
}

func checkPort(f *findings, path string, port int32) {
	if port < 1 || port > 65535 {
		f.add(path, "must be between 1 and 65535", "correct the port")
	}
}
