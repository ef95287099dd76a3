package ports

import "testing"

func TestUsablePortsHaveAPlaceOfTheirOwnThatNeedsNoCapability(t *testing.T) {
	taken := map[int32]int32{Agent: -1}
	usable := 0
	for port := int32(-1); port <= 70000; port++ {
		if !Usable(port) {
			continue
		}
		usable++
		at := ContainerPort(port)
		if at < 1024 || at > 65535 {
			t.Fatalf("port %d is %d in the pod", port, at)
		}
		if other, found := taken[at]; found {
			t.Fatalf("ports %d and %d are both %d in the pod", other, port, at)
		}
		taken[at] = port
	}
	if want := 65535 - 1 - 1023; usable != want {
		t.Errorf("%d ports are usable, want %d", usable, want)
	}
}

func TestKnownPorts(t *testing.T) {
	for port, at := range map[int32]int32{80: 10080, 443: 10443, 1023: 11023, 1024: 1024, 8080: 8080, 65535: 65535} {
		if got := ContainerPort(port); got != at || !Usable(port) {
			t.Errorf("port %d is %d in the pod, want %d; usable: %t", port, got, at, Usable(port))
		}
	}
	for _, port := range []int32{0, -80, 65536, 9103, 10080, 10443, 11023} {
		if Usable(port) {
			t.Errorf("port %d is usable", port)
		}
	}
}
