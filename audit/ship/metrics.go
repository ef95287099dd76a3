package ship

import "github.com/prometheus/client_golang/prometheus"

var (
	descUnshipped = desc("audit_unshipped_entries", "Entries of the audit log here that the audit log service has not confirmed yet.")
	descOldest    = desc("audit_unshipped_seconds", "How old the oldest of them is that is on its way.")
	descShipped   = desc("audit_shipped_total", "Entries that the audit log service has confirmed since the start.")
	descShipping  = desc("audit_shipping", "1 if the audit log service took what it was brought last. 0: entries are kept here, and tried again.")
	descFailures  = desc("audit_ship_failures_total", "Attempts to bring entries to the audit log service that failed, since the start.")
)

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("breakglass_"+name, help, nil, nil)
}

// Describe and Collect make it a prometheus.Collector.
func (c *Client) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect reads the state when it is asked.
func (c *Client) Collect(ch chan<- prometheus.Metric) {
	s := c.Stats()
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	shipping := 1.0
	if s.Failing != "" {
		shipping = 0
	}
	gauge(descUnshipped, float64(s.Unsent))
	gauge(descOldest, s.Oldest.Seconds())
	gauge(descShipping, shipping)
	ch <- prometheus.MustNewConstMetric(descShipped, prometheus.CounterValue, float64(s.Shipped))
	ch <- prometheus.MustNewConstMetric(descFailures, prometheus.CounterValue, float64(s.Failures))
}
