package source

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/breakglass-gateway/breakglass-gateway/api/crds"
)

// crdSchema is one version of one CRD, compiled. Compiling costs tens of
// milliseconds, so that it is done once per process, when first needed.
type crdSchema struct {
	structural *schema.Structural
	openapi    validation.SchemaValidator
	cel        *cel.Validator
}

// schemaOnce holds a crdSchema, or why there is none.
type schemaOnce struct {
	once   sync.Once
	schema *crdSchema
	err    error
}

var schemas sync.Map // "file version" -> *schemaOnce

// schemaOf returns the compiled schema of a version of a kind that has a CRD.
// An error is a defect of this program: the CRDs are embedded.
func schemaOf(k *kind, version string) (*crdSchema, error) {
	v, _ := schemas.LoadOrStore(k.crd+" "+version, &schemaOnce{})
	s := v.(*schemaOnce)
	s.once.Do(func() { s.schema, s.err = compile(k.crd, version) })
	return s.schema, s.err
}

func compile(file, version string) (*crdSchema, error) {
	props, err := schemaProps(file, version)
	if err != nil {
		return nil, fmt.Errorf("embedded CRD %s, version %s: %w", file, version, err)
	}
	// A manifest's status is dropped before it is validated.
	delete(props.Properties, "status")

	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(props, &internal, nil); err != nil {
		return nil, fmt.Errorf("embedded CRD %s, version %s: %w", file, version, err)
	}
	structural, err := schema.NewStructural(&internal)
	if err != nil {
		return nil, fmt.Errorf("embedded CRD %s, version %s: %w", file, version, err)
	}
	openapi, _, err := validation.NewSchemaValidator(&internal)
	if err != nil {
		return nil, fmt.Errorf("embedded CRD %s, version %s: %w", file, version, err)
	}
	return &crdSchema{
		structural: structural,
		openapi:    openapi,
		cel:        cel.NewValidator(structural, true, celconfig.PerCallLimit),
	}, nil
}

func schemaProps(file, version string) (*apiextensionsv1.JSONSchemaProps, error) {
	data, err := crds.FS.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(withoutProse(data), &crd); err != nil {
		return nil, err
	}
	for _, v := range crd.Spec.Versions {
		if v.Name == version && v.Served && v.Schema != nil && v.Schema.OpenAPIV3Schema != nil {
			return v.Schema.OpenAPIV3Schema, nil
		}
	}
	return nil, fmt.Errorf("version is not served")
}

// withoutProse drops the descriptions from a CRD as controller-gen writes it. They
// are most of its text, nothing is validated by them, and reading them would be
// half of what it costs to compile a schema.
func withoutProse(crd []byte) []byte {
	out, skip := make([]byte, 0, len(crd)), -1
	for line := range bytes.Lines(crd) {
		text := bytes.TrimLeft(line, " ")
		indent := len(line) - len(text)
		if skip >= 0 && (indent > skip || text[0] == '\n') {
			continue
		}
		skip = -1
		// A property of that name has a schema, on lines of its own.
		if bytes.HasPrefix(text, []byte("description: ")) {
			skip = indent
			continue
		}
		out = append(out, line...)
	}
	return out
}

// unknownFields removes the fields that the schema does not know, and returns
// their paths.
func (s *crdSchema) unknownFields(u map[string]any) []string {
	return pruning.PruneWithOptions(u, s.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
}

func (s *crdSchema) setDefaults(u map[string]any) {
	defaulting.PruneNonNullableNullsWithoutDefaults(u, s.structural)
	defaulting.Default(u, s.structural)
}

// validate does what an API server does on create. If old is given, the
// transition rules are applied too; everything else is not eased by what old
// already had wrong, because old was valid.
func (s *crdSchema) validate(u, old map[string]any) field.ErrorList {
	errs := validation.ValidateCustomResource(nil, u, s.openapi)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s.structural, u)...)
	if s.cel == nil || blocksCEL(errs) {
		return errs
	}
	var oldObj any
	if old != nil {
		oldObj = old
	}
	celErrs, _ := s.cel.Validate(context.Background(), nil, s.structural, u, oldObj, celconfig.RuntimeCELCostBudget)
	return append(errs, celErrs...)
}

// blocksCEL: rules are not evaluated on an object whose shape is wrong, as in
// the API server's registry/customresource/strategy.go.
func blocksCEL(errs field.ErrorList) bool {
	for _, err := range errs {
		switch err.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return true
		}
	}
	return false
}
