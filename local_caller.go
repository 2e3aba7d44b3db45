//go:build !layer

package main

// local_caller.go tells from an event who has invoked the function. AWS's services write their events in ways
// that differ, and nothing but what they hold tells one from another. Whoever invokes may write the same, so
// this is for people to read, and nothing is decided by it.
//
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-services.html

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

const maxCaller = 80 // characters

// knownEvent has what tells the services' events apart. encoding/json leaves out what is of another type.
type knownEvent struct {
	Records eventRecords

	// HTTP
	HTTPMethod     string `json:"httpMethod"`
	Path           string `json:"path"`
	RawPath        string `json:"rawPath"`
	RequestContext struct {
		ELB          json.RawMessage `json:"elb"`
		DomainName   string          `json:"domainName"`
		ConnectionID string          `json:"connectionId"`
		RouteKey     string          `json:"routeKey"`
		TimeEpoch    int64           `json:"timeEpoch"`        // of version 2
		RequestEpoch int64           `json:"requestTimeEpoch"` // of version 1
		HTTP         struct {
			Method string `json:"method"`
			Path   string `json:"path"`
		} `json:"http"`
	} `json:"requestContext"`
	MethodARN string `json:"methodArn"`
	RouteARN  string `json:"routeArn"`

	// EventBridge
	Source     string    `json:"source"`
	DetailType string    `json:"detail-type"`
	Resources  firstText `json:"resources"`

	// others
	EventSource       string          `json:"eventSource"` // Kafka and MQ
	EventSourceARN    string          `json:"eventSourceArn"`
	TriggerSource     string          `json:"triggerSource"` // Cognito
	UserPoolID        string          `json:"userPoolId"`
	AWSLogs           json.RawMessage `json:"awslogs"`
	DeliveryStreamARN string          `json:"deliveryStreamArn"`
	RequestType       string          // CloudFormation
	StackID           string          `json:"StackId"`
	CodePipeline      json.RawMessage `json:"CodePipeline.job"`
	ConfigRuleName    string          `json:"configRuleName"`
	SecretID          string          `json:"SecretId"`
	Step              string          // Secrets Manager
	ActionGroup       string          `json:"actionGroup"` // Bedrock
	Agent             struct {
		Name string `json:"name"`
	} `json:"agent"`
	Info struct { // AppSync
		FieldName      string `json:"fieldName"`
		ParentTypeName string `json:"parentTypeName"`
	} `json:"info"`
}

// eventRecord is one of Records.
type eventRecord struct {
	EventSource    string `json:"eventSource"`
	EventSourceARN string `json:"eventSourceARN"`
	EventName      string `json:"eventName"`
	SNS            struct {
		TopicARN string `json:"TopicArn"`
	} `json:"Sns"`
	S3 struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
	} `json:"s3"`
	CF struct {
		Config struct {
			EventType string `json:"eventType"`
		} `json:"config"`
	} `json:"cf"`
}

// eventRecords are the first of them, and how many there are. The others are not kept: a hostile event may
// have millions.
type eventRecords struct {
	first eventRecord
	n     int
}

func (r *eventRecords) UnmarshalJSON(text []byte) error {
	return eachElement(text, func(element json.RawMessage) {
		if r.n == 0 {
			json.Unmarshal(element, &r.first) // leaves out what is of another type
		}
		r.n++
	})
}

// firstText is the first of several texts.
type firstText string

func (s *firstText) UnmarshalJSON(text []byte) error {
	first := true
	return eachElement(text, func(element json.RawMessage) {
		if first {
			json.Unmarshal(element, (*string)(s)) // leaves it empty if it is no text
		}
		first = false
	})
}

// eachElement calls f with each element of an array, one at a time. Anything else has none.
func eachElement(text []byte, f func(json.RawMessage)) error {
	if !bytes.HasPrefix(text, []byte("[")) {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	_, err := d.Token()
	for err == nil && d.More() {
		var element json.RawMessage
		err = d.Decode(&element)
		if err == nil {
			f(element)
		}
	}
	return err
}

// caller says who has invoked a function with this event, as far as it tells; "" if it does not.
func caller(event []byte) string {
	var e knownEvent
	if !bytes.HasPrefix(bytes.TrimSpace(event), []byte("{")) {
		return ""
	}
	json.Unmarshal(event, &e) // leaves out what is of another type
	text := e.caller()
	if len(text) > 4*maxCaller {
		text = text[:4*maxCaller]
	}
	return clip(plainText(strings.TrimSpace(strings.ToValidUTF8(text, "?"))), maxCaller)
}

// caller is the same, of what was read from the event.
func (e *knownEvent) caller() string {
	of := cmp.Or(e.Records.caller(), e.httpCaller())
	switch {
	case of != "":
		return of
	case e.DetailType != "" && e.Source != "":
		return e.bridgeCaller()
	case e.TriggerSource != "" && e.UserPoolID != "":
		return "Cognito " + e.TriggerSource
	case e.EventSource == "aws:kafka" || e.EventSource == "SelfManagedKafka":
		return "Kafka"
	case e.EventSource == "aws:mq" || e.EventSource == "aws:rmq":
		return "MQ " + lastSegment(e.EventSourceARN, ":")
	}
	return e.managementCaller()
}

// managementCaller says it of the services that watch and change others.
func (e *knownEvent) managementCaller() string {
	switch {
	case e.AWSLogs != nil:
		return "CloudWatch Logs"
	case e.DeliveryStreamARN != "":
		return "Firehose " + lastSegment(e.DeliveryStreamARN, "/")
	case e.RequestType != "" && e.StackID != "":
		return "CloudFormation " + e.RequestType
	case e.CodePipeline != nil:
		return "CodePipeline"
	case e.ConfigRuleName != "":
		return "Config " + e.ConfigRuleName
	case e.SecretID != "" && e.Step != "":
		return "Secrets Manager " + e.Step
	case e.ActionGroup != "" && e.Agent.Name != "":
		return "Bedrock " + e.Agent.Name
	case e.Info.FieldName != "" && e.Info.ParentTypeName != "":
		return "AppSync " + e.Info.ParentTypeName + "." + e.Info.FieldName
	}
	return ""
}

// httpCaller says it of what comes from an HTTP request.
func (e *knownEvent) httpCaller() string {
	c := &e.RequestContext
	switch {
	case e.MethodARN != "" || e.RouteARN != "":
		return "API Gateway authorizer"
	case c.ConnectionID != "" && c.RouteKey != "":
		return "API Gateway WebSocket " + c.RouteKey
	case c.HTTP.Method != "":
		path := cmp.Or(e.RawPath, c.HTTP.Path)
		if strings.Contains(c.DomainName, ".lambda-url.") {
			return "function URL " + c.HTTP.Method + " " + path
		}
		return c.HTTP.Method + " " + path
	case e.HTTPMethod == "":
		return ""
	case c.ELB != nil:
		return "ALB " + e.HTTPMethod + " " + e.Path
	}
	return e.HTTPMethod + " " + e.Path
}

// bridgeCaller says it of EventBridge's events. Rules and schedules name themselves in the first resource.
func (e *knownEvent) bridgeCaller() string {
	if e.DetailType == "Scheduled Event" {
		return "schedule " + lastSegment(string(e.Resources), "/")
	}
	return "EventBridge " + e.DetailType
}

// caller says it of records.
func (r *eventRecords) caller() string {
	e := &r.first
	text := ""
	switch e.EventSource {
	case "aws:sqs":
		text = "SQS " + lastSegment(e.EventSourceARN, ":")
	case "aws:sns":
		text = "SNS " + lastSegment(e.SNS.TopicARN, ":")
	case "aws:s3":
		text = "S3 " + e.EventName + " " + e.S3.Bucket.Name
	case "aws:dynamodb":
		_, table, _ := strings.Cut(e.EventSourceARN, "/")
		table, _, _ = strings.Cut(table, "/")
		text = "DynamoDB " + table
	case "aws:kinesis":
		text = "Kinesis " + lastSegment(e.EventSourceARN, "/")
	case "aws:ses":
		text = "SES"
	case "aws:codecommit":
		text = "CodeCommit " + lastSegment(e.EventSourceARN, ":")
	default:
		if e.CF.Config.EventType == "" {
			return ""
		}
		text = "CloudFront " + e.CF.Config.EventType
	}
	if r.n > 1 {
		text = fmt.Sprintf("%s ×%d", clip(text, maxCaller-10), r.n)
	}
	return text
}

// lastSegment is what follows the last separator; all of it if there is none.
func lastSegment(s, separator string) string { return s[strings.LastIndex(s, separator)+1:] }

// sentAt is when API Gateway or a function URL got the request that an event tells of; zero for others.
func sentAt(event []byte) time.Time {
	if !bytes.Contains(event, []byte(`imeEpoch"`)) {
		return time.Time{}
	}
	var e knownEvent
	json.Unmarshal(event, &e) // leaves out what is of another type
	ms := max(e.RequestContext.TimeEpoch, e.RequestContext.RequestEpoch)
	if ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
