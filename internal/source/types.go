package source

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// checkTypes compares a decoded value with the Go type it is to become, and
// names each field that is unknown or of the wrong type. The decoders would
// refuse it too, but without a path, and quoting the value.
func checkTypes(f *findings, v any, t reflect.Type, path string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if v == nil || checkSpecial(f, v, t, path) {
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		checkStruct(f, v, t, path)
	case reflect.Map:
		checkMap(f, v, t, path)
	case reflect.Slice:
		checkSlice(f, v, t, path)
	case reflect.String:
		if _, ok := v.(string); !ok {
			f.wrongType(path, v, "text")
		}
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			f.wrongType(path, v, "true or false")
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, ok := v.(int64)
		switch {
		case !ok:
			f.wrongType(path, v, "a whole number")
		case reflect.Zero(t).OverflowInt(n):
			f.add(path, "is out of range", "correct the value")
		}
	}
}

func checkMap(f *findings, v any, t reflect.Type, path string) {
	m, ok := v.(map[string]any)
	if !ok {
		f.wrongType(path, v, "an object")
		return
	}
	for k, item := range m {
		checkTypes(f, item, t.Elem(), path+"["+k+"]")
	}
}

func checkSlice(f *findings, v any, t reflect.Type, path string) {
	if t.Elem().Kind() == reflect.Uint8 {
		checkBase64(f, v, path)
		return
	}
	list, ok := v.([]any)
	if !ok {
		f.wrongType(path, v, "a list")
		return
	}
	for i, item := range list {
		checkTypes(f, item, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
	}
}

func checkStruct(f *findings, v any, t reflect.Type, path string) {
	m, ok := v.(map[string]any)
	if !ok {
		f.wrongType(path, v, "an object")
		return
	}
	fields := fieldsOf(t)
	for k, item := range m {
		at := k
		if path != "" {
			at = path + "." + k
		}
		ft, ok := fields[k]
		if !ok {
			known := make([]string, 0, len(fields))
			for name := range fields {
				known = append(known, name)
			}
			f.unknown(at, k, known)
			continue
		}
		checkTypes(f, item, ft, at)
	}
}

// checkSpecial handles the types that decode themselves.
func checkSpecial(f *findings, v any, t reflect.Type, path string) bool {
	switch t {
	case reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime]():
		text, ok := v.(string)
		if !ok {
			f.wrongType(path, v, "text")
			return true
		}
		if _, err := time.Parse(time.RFC3339, text); err != nil {
			f.add(path, notATime, timeRemedy)
		}
		return true
	case reflect.TypeFor[intstr.IntOrString]():
		switch v.(type) {
		case string, int64:
		default:
			f.wrongType(path, v, "a whole number or text")
		}
		return true
	case reflect.TypeFor[resource.Quantity](), reflect.TypeFor[metav1.FieldsV1]():
		return true // not in what is read here beyond what the server owns
	}
	return false
}

func checkBase64(f *findings, v any, path string) {
	text, ok := v.(string)
	if !ok {
		f.wrongType(path, v, "base64 text")
		return
	}
	if _, err := base64.StdEncoding.DecodeString(text); err != nil {
		f.add(path, "is not base64", "encode the value, or write it in plain under stringData (of a Secret)")
	}
}

func (f *findings) wrongType(path string, v any, want string) {
	got := "an object"
	switch v.(type) {
	case string:
		got = "text"
	case int64, float64:
		got = "a number"
	case bool:
		got = "true or false"
	case []any:
		got = "a list"
	}
	f.add(path, "must be "+want+", not "+got, typeRemedy(want))
}

var fieldCache sync.Map // reflect.Type -> map[string]reflect.Type

// fieldsOf maps the JSON names of a struct's fields to their types.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	if m, ok := fieldCache.Load(t); ok {
		return m.(map[string]reflect.Type)
	}
	m := map[string]reflect.Type{}
	for i := range t.NumField() {
		sf := t.Field(i)
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		switch {
		case name == "-" || !sf.IsExported():
		case name == "" && sf.Anonymous:
			for k, v := range fieldsOf(sf.Type) {
				m[k] = v
			}
		case name != "":
			m[name] = sf.Type
		}
	}
	fieldCache.Store(t, m)
	return m
}
