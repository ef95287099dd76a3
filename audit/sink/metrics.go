package sink

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

var (
	descBehind    = desc("behind_entries", "Entries of the log that a sink has not taken yet.")
	descAge       = desc("behind_seconds", "Age of the oldest entry that a sink has not taken yet.")
	descSuccess   = desc("last_success_seconds", "When a receiver last took something, Unix time. 0: not since the start.")
	descFailing   = desc("failing", "1 while deliveries of a sink fail.")
	descFailures  = desc("failures_total", "Deliveries that failed since the start.")
	descDelivered = desc("delivered_total", "Entries and checkpoints that a receiver has taken since the start.")
)

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("breakglass_sink_"+name, help, []string{"sink"}, nil)
}

// Describe is of prometheus.Collector.
func (s *Sinks) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descBehind, descAge, descSuccess, descFailing, descFailures, descDelivered} {
		ch <- d
	}
}

// Collect is of prometheus.Collector.
func (s *Sinks) Collect(ch chan<- prometheus.Metric) {
	size, known := logSize(s.dir)
	for _, f := range s.followers {
		st, oldest := f.state.read()
		value := func(d *prometheus.Desc, t prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, t, v, st.Name)
		}
		behind, age := uint64(0), 0.0
		if known && size > st.Next {
			behind = size - st.Next
			if !oldest.IsZero() {
				age = max(0, f.Now().Sub(oldest).Seconds())
			}
		}
		value(descBehind, prometheus.GaugeValue, float64(behind))
		value(descAge, prometheus.GaugeValue, age)
		success := 0.0
		if !st.LastSuccess.IsZero() {
			success = float64(st.LastSuccess.UnixMilli()) / 1000
		}
		value(descSuccess, prometheus.GaugeValue, success)
		failing := 0.0
		if !st.Failing.IsZero() {
			failing = 1
		}
		value(descFailing, prometheus.GaugeValue, failing)
		value(descFailures, prometheus.CounterValue, float64(st.Failures))
		value(descDelivered, prometheus.CounterValue, float64(st.Delivered))
	}
}

// Status is how the sinks are, in the order of the file.
func (s *Sinks) Status() (out []Status) {
	for _, f := range s.followers {
		st, _ := f.state.read()
		out = append(out, st)
	}
	return out
}

// logSize is how many entries the newest checkpoint covers.
func logSize(dir string) (uint64, bool) {
	note, err := merkle.Checkpoint(dir)
	if err != nil || note == nil {
		return 0, false
	}
	_, size, _, err := merkle.CheckpointHead(note)
	return size, err == nil
}
