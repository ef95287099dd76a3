package translator

import (
	"fmt"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// class is a GatewayClass of ours.
type class struct {
	obj    *gwv1.GatewayClass
	policy *policy // nil: nothing can be opened
	cond   condition
}

func (s *state) resolveClasses() {
	s.classes = map[string]*class{}
	for name, obj := range s.in.GatewayClasses {
		if string(obj.Spec.ControllerName) != v1alpha1.ControllerName {
			continue
		}
		c := &class{obj: obj, cond: yes(string(gwv1.GatewayClassConditionStatusAccepted), string(gwv1.GatewayClassReasonAccepted))}
		invalid := func(format string, args ...any) {
			c.cond = no(string(gwv1.GatewayClassConditionStatusAccepted), string(gwv1.GatewayClassReasonInvalidParameters), fmt.Sprintf(format, args...))
		}
		switch ref := obj.Spec.ParametersRef; {
		case ref == nil:
			invalid("spec.parametersRef is missing: name an EmergencyPolicy (group %s)", v1alpha1.GroupName)
		case string(ref.Group) != v1alpha1.GroupName || string(ref.Kind) != "EmergencyPolicy":
			invalid("spec.parametersRef names %s/%s: only EmergencyPolicy of group %s is supported", ref.Group, ref.Kind, v1alpha1.GroupName)
		case s.policies[ref.Name] == nil:
			invalid("spec.parametersRef: EmergencyPolicy %s does not exist", ref.Name)
		default:
			c.policy = s.policies[ref.Name]
		}
		s.classes[name] = c
	}
}
