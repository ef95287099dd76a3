//go:build cluster

package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

func opens(d *door) {
	It("lets alice, who may do nothing but activate, open a route by kubectl apply: until its deadline, for who has a token", func(ctx context.Context) {
		name := once("opens")
		d.route(ctx, name)
		token := d.token()
		get := d.client(false).Status(testbed.Host(name), "/api/x", token)
		Expect(get()).To(Equal(404))
		manifest := d.activation(name, name, 15*time.Second)
		began := time.Now()
		kubectl(ctx, "--kubeconfig", d.alice, "apply", "-f", manifest)
		Eventually(get).WithPolling(time.Millisecond).Should(Equal(200))
		AddReportEntry("from `kubectl apply` to the first 200, kubectl's own time included", time.Since(began).Round(time.Millisecond).String())
		Eventually(d.phase).WithArguments(ctx, name).Should(Equal(v1alpha1.PhaseLive))
		deadline := d.look(ctx, name).Status.Deadline.Time

		p := d.probe(name)
		var streams []*testbed.Stream
		for _, pod := range pods(ctx, fleets) {
			streams = append(streams, d.envoy(pod).Events(pod.Name, testbed.Host(name), "/api/stream", token))
		}
		for _, s := range streams {
			Expect(s.Status()).To(Equal(200), s.Kind)
		}

		By("the columns of `kubectl get activations`")
		table := strings.Split(strings.TrimSpace(kubectl(ctx, "--kubeconfig", d.alice, "-n", tenants, "get", "activations", name)), "\n")
		Expect(table).To(HaveLen(2))
		Expect(strings.Fields(table[0])).To(Equal([]string{"NAME", "ROUTE", "ROLE", "INCIDENT", "PHASE", "DEADLINE", "REVIEW"}))
		row := strings.Fields(table[1])
		Expect(row[:5]).To(Equal([]string{name, name, "db", "INC-4711", "Live"}))
		Expect(time.Parse(time.RFC3339, row[5])).To(BeTemporally("==", deadline))

		By("what alice may not")
		for _, args := range [][]string{
			{"-n", release, "get", "secrets"}, {"-n", tenants, "get", "httproutes"}, {"-n", tenants, "delete", "activation", name},
			{"-n", tenants, "patch", "activation", name, "--type=merge", "-p", `{"spec":{"revoked":true}}`},
		} {
			_, err := shared.Kubectl(ctx, append([]string{"--kubeconfig", d.alice}, args...)...)
			Expect(err).To(MatchError(ContainSubstring("orbidden")), "%v", args)
		}
		Expect(d.look(ctx, name).Spec.RequestedBy).To(Equal("alice"))

		By("the deadline")
		for _, s := range streams {
			Eventually(s.Done()).WithTimeout(time.Until(deadline)+10*time.Second).Should(BeClosed(), s.String)
			Expect(s.Last()).To(BeTemporally("~", deadline, time.Second), s.String())
			AddReportEntry("the last byte of a stream came after its deadline by", s.Last().Sub(deadline).Round(10*time.Microsecond).String())
		}
		Eventually(get).Should(Equal(404))
		p.calm(deadline.Add(-5*time.Second), deadline.Add(-100*time.Millisecond))
		p.stop(deadline)
		Eventually(d.phase).WithArguments(ctx, name).Should(Equal(v1alpha1.PhaseExpired))

		Eventually(func(g Gomega) {
			reasons := kubectl(ctx, "-n", tenants, "get", "events", "--field-selector", "involvedObject.kind=Activation,involvedObject.name="+name,
				"-o", `jsonpath={range .items[*]}{.reason}{"\n"}{end}`)
			g.Expect(strings.Fields(reasons)).To(ConsistOf("Opened", "Live", "Expired"))
		}).WithContext(ctx).Should(Succeed())
	})

	It("opens within milliseconds", func(ctx context.Context) {
		name := once("quick")
		d.route(ctx, name)
		alice := apiClient(d.alice)
		get := d.client(false).Status(testbed.Host(name), "/api/x", d.token())
		for i := range 10 {
			lasts := gwv1.Duration("1m")
			a := &v1alpha1.Activation{
				ObjectMeta: metav1.ObjectMeta{Namespace: tenants, Name: fmt.Sprintf("%s-%d", name, i)},
				Spec: v1alpha1.ActivationSpec{
					TargetRefs: []v1alpha1.TargetReference{{Name: name}}, Role: "db", Reason: "the database is down", Incident: "INC-4711", Duration: &lasts,
				},
			}
			Eventually(get).Should(Equal(404))
			began := time.Now()
			Expect(alice.Create(ctx, a)).To(Succeed())
			Eventually(get).WithPolling(time.Millisecond).Should(Equal(200))
			testbed.Figure("from the API call to the first 200", time.Since(began))
			kubectl(ctx, "-n", tenants, "delete", "activation", a.Name, "--wait=false")
		}
		Eventually(get).Should(Equal(404))
	})

	It("lets carol, who may do nothing but revoke, close what is open", func(ctx context.Context) {
		name := once("revoked")
		deadline := d.open(ctx, name, 5*time.Minute)
		p := d.probe(name)
		stream := d.client(false).Events("stream", testbed.Host(name), "/api/stream", d.token())
		Eventually(stream.Bytes).Should(BeNumerically(">", 100), stream.String)

		_, err := shared.Kubectl(ctx, "--kubeconfig", d.carol, "apply", "-f", d.activation("hers", name, time.Minute))
		Expect(err).To(MatchError(ContainSubstring("orbidden")), "carol opens something")
		revoked := d.revoke(ctx, name)
		Eventually(stream.Done()).Should(BeClosed())
		AddReportEntry("the last byte of a stream came after `kubectl patch` by", stream.Last().Sub(revoked).Round(time.Millisecond).String())
		Eventually(d.phase).WithArguments(ctx, name).Should(Equal(v1alpha1.PhaseRevoked))
		p.stop(revoked.Add(time.Second))
		Expect(time.Now()).To(BeTemporally("<", deadline))
		Expect(d.look(ctx, name).Spec.RevokedBy).To(Equal("carol"))
	})
}

// apiClient is somebody's.
func apiClient(kubeconfig string) client.Client {
	GinkgoHelper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	Expect(err).NotTo(HaveOccurred())
	config.Dial = shared.Dial
	scheme := runtime.NewScheme()
	Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
	c, err := client.New(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	return c
}
