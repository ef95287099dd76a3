package main

import (
	"cmp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

func init() { crossCheck = translate }

// translate finds what serve would say of these objects in their status. What a
// reviewed repository does not hold, keys and certificates, is not missed.
func translate(set *source.Set) []source.Problem {
	out := translator.Translate(translator.Input{Now: time.Now().UTC(), Objects: set.Objects})
	c := &cross{set: set}
	for name, s := range out.Statuses.GatewayClasses {
		c.conditions("GatewayClass", types.NamespacedName{Name: name}, "", s.Conditions, string(gwv1.GatewayClassConditionStatusAccepted))
	}
	for key, s := range out.Statuses.Gateways {
		c.conditions("Gateway", key, "", s.Conditions, string(gwv1.GatewayConditionAccepted))
		if refs := control.Condition(s.Conditions, string(gwv1.GatewayConditionResolvedRefs)); refs.Reason != string(gwv1.GatewayReasonListenersNotResolved) {
			c.conditions("Gateway", key, "spec.tls.backend", []metav1.Condition{refs}, refs.Type)
		}
		for _, l := range s.Listeners {
			c.conditions("Gateway", key, "spec.listeners["+string(l.Name)+"]", l.Conditions, string(gwv1.ListenerConditionAccepted), string(gwv1.ListenerConditionResolvedRefs))
			for _, cond := range l.Conditions {
				if cond.Type == string(gwv1.ListenerConditionConflicted) && cond.Status == metav1.ConditionTrue {
					c.add("Gateway", key, "spec.listeners["+string(l.Name)+"]", cond.Message)
				}
			}
		}
	}
	for key, s := range out.Statuses.ListenerSets {
		c.conditions("ListenerSet", key, "", s.Conditions, string(gwv1.ListenerSetConditionAccepted))
		for _, l := range s.Listeners {
			c.conditions("ListenerSet", key, "spec.listeners["+string(l.Name)+"]", l.Conditions, string(gwv1.ListenerEntryConditionAccepted), string(gwv1.ListenerEntryConditionResolvedRefs))
		}
	}
	for key, s := range out.Statuses.Routes {
		for _, p := range s.Parents {
			c.conditions(key.Kind, key.NamespacedName, "", p.Conditions, string(gwv1.RouteConditionAccepted), string(gwv1.RouteConditionResolvedRefs))
		}
	}
	for _, u := range translator.FindUnserved(set.Objects, out) {
		c.add(u.Kind, u.Key, u.Field, u.Message)
	}
	c.issuers(out)
	for key, s := range out.Statuses.Activations {
		c.activation(key, s)
	}
	slices.SortFunc(c.problems, func(a, b source.Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(c.problems)
}

// cross collects problems.
type cross struct {
	set      *source.Set
	problems []source.Problem
}

func (c *cross) add(kind string, key types.NamespacedName, field, message string) {
	k := source.ObjectKey{Kind: kind, Namespace: key.Namespace, Name: key.Name}
	o := c.set.Origins[k]
	c.problems = append(c.problems, source.Problem{File: o.File, Line: o.Line, Object: k.String(), Field: field, Message: message})
}

// conditions reports those of the given types that are False.
func (c *cross) conditions(kind string, key types.NamespacedName, field string, conds []metav1.Condition, types ...string) {
	for _, cond := range conds {
		for _, t := range types {
			missing := kind == "Gateway" && strings.Contains(cond.Message, "Secret ") && strings.HasSuffix(cond.Message, "does not exist")
			if cond.Type == t && cond.Status == metav1.ConditionFalse && !missing {
				c.add(kind, key, field, cond.Message)
			}
		}
	}
}

// issuers reports keys that are there and wrong.
func (c *cross) issuers(out *translator.Result) {
	for name, issuers := range out.Issuers {
		for i, known := range issuers {
			src := c.set.Policies[name].Spec.Issuers[i].JWKS
			missing := strings.Contains(known.Error, "the key set is empty") || strings.HasSuffix(known.Error, "does not exist")
			if known.Error != "" && src.Remote == nil && !missing {
				c.add("EmergencyPolicy", types.NamespacedName{Name: name}, "spec.issuers["+known.Name+"].jwks", known.Error)
			}
		}
	}
}

// activation reports what could never open as it stands.
func (c *cross) activation(key types.NamespacedName, s v1alpha1.ActivationStatus) {
	if s.Phase == v1alpha1.PhaseRefused {
		c.add("Activation", key, "", s.Conditions[0].Message)
		return
	}
	for _, t := range s.Targets {
		if t.Reason == activation.ReasonRouteNotFound || t.Reason == activation.ReasonRuleNotFound {
			c.add("Activation", key, "spec.targetRefs", t.Message)
		}
	}
}
