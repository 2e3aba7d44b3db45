//go:build !layer

package main

// aws_stack.go is the command template: the CloudFormation template of the AppSync API, and of the policies
// that both of its ends need.

import (
	"fmt"
	"regexp"
	"strings"
)

// stackTemplate makes an AppSync API and the policies that its two ends need. KIND, RESOURCES, ALLOWANCE and
// OUTPUTS stand for what differs between an Event API and a GraphQL API. Outputs are named after the
// variables that they are for: see variableOf.
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsappsync.html
const stackTemplate = `AWSTemplateFormatVersion: "2010-09-09"
Description: live-lambda, an AppSync KIND API that takes invocations of Lambda functions to developers and back

Resources:
RESOURCES
  FunctionPolicy:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      Description: for the roles of functions that live-lambda is attached to
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
ALLOWANCE
  DeveloperPolicy:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      Description: for developers who run live-lambda local
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
ALLOWANCE
Outputs:
OUTPUTS  LiveLambdaAppsyncRegion:
    Description: LIVE_LAMBDA_APPSYNC_REGION
    Value: !Ref AWS::Region
  LiveLambdaFunctionPolicyArn:
    Description: policy for the roles of functions
    Value: !Ref FunctionPolicy
  LiveLambdaDeveloperPolicyArn:
    Description: policy for developers
    Value: !Ref DeveloperPolicy
`

// eventTemplate has an Event API and its namespace.
// https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-appsync-api.html
func eventTemplate() string {
	return strings.NewReplacer("KIND", "Event", "RESOURCES", `  EventApi:
    Type: AWS::AppSync::Api
    Properties:
      Name: live-lambda
      EventConfig:
        AuthProviders:
          - AuthType: AWS_IAM
        ConnectionAuthModes:
          - AuthType: AWS_IAM
        DefaultPublishAuthModes:
          - AuthType: AWS_IAM
        DefaultSubscribeAuthModes:
          - AuthType: AWS_IAM

  Namespace:
    Type: AWS::AppSync::ChannelNamespace
    Properties:
      ApiId: !GetAtt EventApi.ApiId
      Name: live-lambda
`, "ALLOWANCE", `          - Effect: Allow
            Action: appsync:EventConnect
            Resource: !Sub "arn:${AWS::Partition}:appsync:${AWS::Region}:${AWS::AccountId}:apis/${EventApi.ApiId}"
          - Effect: Allow
            Action:
              - appsync:EventPublish
              - appsync:EventSubscribe
            Resource: !Sub "arn:${AWS::Partition}:appsync:${AWS::Region}:${AWS::AccountId}:apis/${EventApi.ApiId}/channelNamespace/live-lambda"
`, "OUTPUTS", `  LiveLambdaAppsyncHttpHost:
    Description: LIVE_LAMBDA_APPSYNC_HTTP_HOST
    Value: !GetAtt EventApi.Dns.Http
  LiveLambdaAppsyncRealtimeHost:
    Description: LIVE_LAMBDA_APPSYNC_REALTIME_HOST
    Value: !GetAtt EventApi.Dns.Realtime
`).Replace(stackTemplate)
}

// graphqlSchema is AWS's own for generic publish and subscribe: a message is a name, which is its channel,
// and data.
// https://docs.aws.amazon.com/appsync/latest/devguide/aws-appsync-real-time-create-generic-api-serverless-websocket.html
const graphqlSchema = `type Channel {
  name: String!
  data: AWSJSON!
}

type Query {
  getChannel: Channel
}

type Mutation {
  publish(name: String!, data: AWSJSON!): Channel
}

type Subscription {
  subscribe(name: String!): Channel @aws_subscribe(mutations: ["publish"])
}
`

// graphqlTemplate has a GraphQL API in which what is published passes through, without a data source. The
// resolver gets a value of AWSJSON parsed, and AppSync makes text of what it returns.
// https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-appsync-graphqlapi.html
// https://docs.aws.amazon.com/appsync/latest/devguide/tutorial-local-resolvers-js.html
func graphqlTemplate() string {
	return strings.NewReplacer("KIND", "GraphQL", "RESOURCES", `  GraphqlApi:
    Type: AWS::AppSync::GraphQLApi
    Properties:
      Name: live-lambda
      AuthenticationType: AWS_IAM

  Schema:
    Type: AWS::AppSync::GraphQLSchema
    Properties:
      ApiId: !GetAtt GraphqlApi.ApiId
      Definition: |
`+regexp.MustCompile(`(?m)^.`).ReplaceAllString(graphqlSchema, "        $0")+`
  NoDataSource:
    Type: AWS::AppSync::DataSource
    Properties:
      ApiId: !GetAtt GraphqlApi.ApiId
      Name: none
      Type: NONE

  Publish:
    Type: AWS::AppSync::Resolver
    DependsOn: Schema
    Properties:
      ApiId: !GetAtt GraphqlApi.ApiId
      TypeName: Mutation
      FieldName: publish
      DataSourceName: !GetAtt NoDataSource.Name
      Runtime:
        Name: APPSYNC_JS
        RuntimeVersion: "1.0.0"
      Code: |
        export function request(ctx) {
          return { payload: { name: ctx.args.name, data: ctx.args.data } };
        }
        export function response(ctx) {
          return ctx.result;
        }
`, "ALLOWANCE", `          - Effect: Allow
            Action: appsync:GraphQL
            Resource:
              - !Sub "arn:${AWS::Partition}:appsync:${AWS::Region}:${AWS::AccountId}:apis/${GraphqlApi.ApiId}/types/Mutation/fields/publish"
              - !Sub "arn:${AWS::Partition}:appsync:${AWS::Region}:${AWS::AccountId}:apis/${GraphqlApi.ApiId}/types/Subscription/fields/subscribe"
`, "OUTPUTS", `  LiveLambdaAppsyncProtocol:
    Description: LIVE_LAMBDA_APPSYNC_PROTOCOL
    Value: graphql
  LiveLambdaAppsyncHttpHost:
    Description: LIVE_LAMBDA_APPSYNC_HTTP_HOST
    Value: !GetAtt GraphqlApi.GraphQLDns
  LiveLambdaAppsyncRealtimeHost:
    Description: LIVE_LAMBDA_APPSYNC_REALTIME_HOST
    Value: !GetAtt GraphqlApi.RealtimeDns
`).Replace(stackTemplate)
}

const templateUsage = `usage: live-lambda template [flags]

Prints a CloudFormation template: an AppSync Event API with IAM authorization and the namespace
live-lambda, a policy for the roles of functions, one for developers, and as outputs what --stack
reads. Deploy it with

  live-lambda template > live-lambda.yaml
  aws cloudformation deploy --stack-name live-lambda \
    --template-file live-lambda.yaml --capabilities CAPABILITY_IAM

It needs no permissions. Deploying it needs cloudformation:CreateChangeSet and so on, appsync:CreateApi,
appsync:CreateChannelNamespace and iam:CreatePolicy.`

// template is the command template.
func (t *console) template(args []string) int {
	f := t.commandLine("template", templateUsage)
	protocol := f.String("protocol", "events",
		"`protocol` of the API: events, or graphql for a GraphQL API with its schema and resolver")
	status, ok := f.parseFlags(args)
	if !ok {
		return status
	}
	switch *protocol {
	case "events":
		fmt.Fprint(t.out, eventTemplate())
	case "graphql":
		fmt.Fprint(t.out, graphqlTemplate())
	default:
		return f.wrong("--protocol is %q, not events or graphql", *protocol)
	}
	return 0
}
