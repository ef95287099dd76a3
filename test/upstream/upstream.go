// Package upstream has what the conformance tests of the Gateway API ask of
// HTTPRoutes: their manifests as they are, and their requests with the answers that
// they expect, so that tests of ours can ask the same without a cluster. README.md
// says where they come from.
package upstream

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed httproute base.yaml
var files embed.FS

// Test is one test of upstream's.
type Test struct {
	Name     string
	Manifest []byte
	Cases    []Case
}

// Case is a request to a Gateway of namespace Infra, and what becomes of it. But for
// Gateway and Port the names are upstream's.
type Case struct {
	Gateway string
	Port    int32 // of the Gateway; 0 is 80

	TestCaseName              string
	Request                   Request
	ExpectedRequest           *ExpectedRequest
	RedirectRequest           *Redirect
	BackendSetResponseHeaders map[string]string
	Response                  Response
	Backend, Namespace        string
	MirroredTo                []struct {
		BackendRef struct{ Name, Namespace string }
	}
}

// Request is what is sent, or what is to arrive.
type Request struct {
	Host, Method, Path, Protocol, Body string
	Headers                            map[string]string
	UnfollowRedirect                   bool
}

// ExpectedRequest is what is to arrive at the backend.
type ExpectedRequest struct {
	Request       `json:"Request"`
	AbsentHeaders []string
}

// Redirect is where a redirect is to lead; what is empty is as in the request.
type Redirect struct{ Scheme, Host, Port, Path string }

// Response is what is to come back.
type Response struct {
	StatusCode        int
	StatusCodes       []int
	Headers           map[string]string
	ValidHeaderValues map[string][]string
	AbsentHeaders     []string
	Protocol          string
	IgnoreWhitespace  bool
}

// Infra is the namespace of the Gateways.
const Infra = "gateway-conformance-infra"

// Base is the manifest that the tests build on: namespaces, Gateways and Services.
func Base() []byte {
	b, err := files.ReadFile("base.yaml")
	if err != nil {
		panic(err) // it is embedded
	}
	return b
}

// Tests in order of their names.
func Tests() ([]Test, error) {
	names, err := fs.Glob(files, "httproute/*.cases.yaml")
	if err != nil {
		return nil, err
	}
	var out []Test
	for _, name := range names {
		t := Test{Name: strings.TrimSuffix(path.Base(name), ".cases.yaml")}
		cases, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if err := yaml.UnmarshalStrict(cases, &t.Cases); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if t.Manifest, err = files.ReadFile("httproute/" + t.Name + ".yaml"); err != nil {
			return nil, err
		}
		for i := range t.Cases {
			t.Cases[i].complete()
		}
		out = append(out, t)
	}
	return out, nil
}

// complete fills in what upstream's helpers take for granted.
func (c *Case) complete() {
	if c.Port == 0 {
		c.Port = 80
	}
	if c.Request.Method == "" {
		c.Request.Method = "GET"
	}
	if c.Response.StatusCode != 0 {
		c.Response.StatusCodes = append(c.Response.StatusCodes, c.Response.StatusCode)
	}
	if len(c.Response.StatusCodes) == 0 {
		c.Response.StatusCodes = []int{200}
	}
	if c.ExpectedRequest == nil {
		c.ExpectedRequest = &ExpectedRequest{Request: c.Request}
	}
	if c.ExpectedRequest.Method == "" {
		c.ExpectedRequest.Method = "GET"
	}
}
