package receivers

import (
	_ "github.com/cloudevents/sdk-go/v2/event"
	_ "github.com/cloudevents/sdk-go/v2/protocol/http"
	_ "github.com/santhosh-tekuri/jsonschema/v6"
	_ "github.com/standard-webhooks/standard-webhooks/libraries/go"
	_ "go.opentelemetry.io/collector/component"
	_ "go.opentelemetry.io/collector/component/componenttest"
	_ "go.opentelemetry.io/collector/confmap"
	_ "go.opentelemetry.io/collector/consumer"
	_ "go.opentelemetry.io/collector/consumer/consumererror"
	_ "go.opentelemetry.io/collector/pdata/plog"
	_ "go.opentelemetry.io/collector/receiver"
	_ "go.opentelemetry.io/collector/receiver/otlpreceiver"
	_ "github.com/breakglass-gateway/breakglass-gateway/audit/sink"
)
