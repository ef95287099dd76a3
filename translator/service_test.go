package translator

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// oneService is pay/db on port 80 with one endpoint.
func oneService() (map[types.NamespacedName]*corev1.Service, map[types.NamespacedName]*discoveryv1.EndpointSlice) {
	return map[types.NamespacedName]*corev1.Service{key("db"): {
			ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "db"},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
		}}, map[types.NamespacedName]*discoveryv1.EndpointSlice{key("db-1"): {
			ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "db-1", Labels: map[string]string{discoveryv1.LabelServiceName: "db"}},
			Ports:      []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(9000))}},
			Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}},
		}}
}
