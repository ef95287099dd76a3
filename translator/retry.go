package translator

import (
	"fmt"
	"math"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

func checkRetry(r *gwv1.HTTPRouteRetry) error {
	if r == nil {
		return nil
	}
	if r.Attempts != nil && *r.Attempts < 1 {
		return fmt.Errorf("retry.attempts: %d is no number of attempts: set at least 1, or remove retry", *r.Attempts)
	}
	for i, c := range r.Codes {
		if c < 400 || c > 599 {
			return fmt.Errorf("retry.codes[%d]: %d is not an error: only 400 to 599 can be tried again", i, c)
		}
	}
	return nil
}

// retryPolicy is how often a request is tried, and how long each try may take. All
// tries go through the lease, and together they end with the deadline, the token
// and timeouts.request.
func (ru *rule) retryPolicy() *routev3.RetryPolicy {
	var perTry *durationpb.Duration
	if t := ru.spec.Timeouts; t != nil {
		if d := v1alpha1.DurationOr(t.BackendRequest, 0); d > 0 {
			perTry = durationpb.New(d)
		}
	}
	spec := ru.spec.Retry
	if spec == nil {
		if perTry == nil {
			return nil
		}
		return &routev3.RetryPolicy{PerTryTimeout: perTry}
	}
	p := &routev3.RetryPolicy{
		// "reset" is what never answered: no connection, one that broke, a try that
		// took too long.
		RetryOn:       "reset,retriable-status-codes",
		NumRetries:    wrapperspb.UInt32(1),
		PerTryTimeout: perTry,
	}
	if spec.Attempts != nil {
		p.NumRetries = wrapperspb.UInt32(uint32(min(*spec.Attempts, math.MaxInt32)))
	}
	for _, c := range spec.Codes {
		p.RetriableStatusCodes = append(p.RetriableStatusCodes, uint32(c))
	}
	if spec.Backoff != nil {
		p.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: durationpb.New(max(v1alpha1.DurationOr(spec.Backoff, 0), time.Millisecond))}
	}
	return p
}
