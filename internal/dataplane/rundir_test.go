package dataplane

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

func runDir(t *testing.T) RunDir {
	t.Helper()
	d := RunDir(shortDir(t) + "/run")
	if err := d.Prepare(); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTheEndOfEachEpochIsNotedOnce(t *testing.T) {
	d := runDir(t)
	want := func(epoch string, ends ...End) {
		t.Helper()
		got, err := d.Ends()
		if err != nil || len(got) != len(ends) || len(ends) > 0 && !reflect.DeepEqual(got, ends) || d.Epoch() != epoch {
			t.Fatalf("epoch %q, ends %+v, error %v; want %q, %+v", d.Epoch(), got, err, epoch, ends)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want("")
	do(d.begin("a1"))
	want("a1")
	do(d.end(End{"a1", true}))
	want("", End{"a1", true})
	do(d.Forget(End{"a1", true}))
	do(d.Forget(End{"a1", true}))
	want("")
	do(d.begin("b2")) // a1 is not told again
	want("b2")
	do(d.begin("c3")) // nobody lived to see the end of b2
	want("c3", End{"b2", false})
}

func TestAnEpochThatIsNoneIsNotMadeAFile(t *testing.T) {
	d := runDir(t)
	for _, bad := range []string{"", "../up", "a/b", "."} {
		if err := d.end(End{Epoch: bad}); err == nil {
			t.Errorf("%q is taken for an epoch", bad)
		}
	}
}

func TestARunDirIsClosedToOthersAndItsSocketsFit(t *testing.T) {
	d := runDir(t)
	info, err := os.Stat(string(d))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if alive, err := d.Alive(); alive || err != nil {
		t.Errorf("an Envoy lives: %t, %v", alive, err)
	}
	if err := RunDir("/" + strings.Repeat("d", 100)).Prepare(); err == nil || !strings.Contains(err.Error(), "shorter path") {
		t.Errorf("error %v", err)
	}
}

func TestCountersNameOneEpoch(t *testing.T) {
	one := "envoy_server_live{epoch=\"a\"} 1\n# TYPE envoy_http_downstream_rq_total counter\nenvoy_http_downstream_rq_total{chain=\"http-80\",epoch=\"a\"} 7\n"
	c, err := parseCounters([]byte(one))
	if err != nil || c.Epoch != "a" || c.Chains["http-80"].Total != 7 {
		t.Errorf("%+v, error %v", c, err)
	}
	if c, err := parseCounters([]byte(one + "envoy_filesystem_write_failed{epoch=\"b\"} 0\n")); err == nil {
		t.Errorf("counters of two Envoys are one: %+v", c)
	}
}
