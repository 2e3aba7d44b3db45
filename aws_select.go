//go:build !layer

package main

// aws_select.go says which functions the words of a command line stand for: names, ARNs, shell patterns, tags
// and stacks. Each kind asks for the one permission that it takes, and a name for none.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

const (
	tagWord   = "tag:"
	stackWord = "stack:"

	maxStacks = 100 // that are looked at for one word: a stack, and those nested in it
)

// ---- words ----

// checkWords says which word of a command line cannot stand for functions.
func checkWords(words []string) error {
	if len(words) == 0 {
		return errors.New("name a function")
	}
	for _, word := range words {
		if err := checkWord(word); err != nil {
			return err
		}
	}
	return nil
}

// checkWord checks a tag, a stack, a pattern, or a function's name or ARN.
func checkWord(word string) error {
	tag, isTag := strings.CutPrefix(word, tagWord)
	stack, isStack := strings.CutPrefix(word, stackWord)
	switch {
	case isTag && (tag == "" || strings.HasPrefix(tag, "=")):
		return fmt.Errorf("%q is not tag:KEY=VALUE or tag:KEY", word)
	case isStack && (stack == "" || strings.HasPrefix(stack, "-")):
		return fmt.Errorf("%q is not stack:NAME", word)
	case isTag, isStack:
		return nil
	case isPattern(word):
		_, err := path.Match(word, "")
		if err != nil {
			return fmt.Errorf("%q is not a shell pattern: %w", word, err)
		}
		return nil
	}
	return checkName(word)
}

// checkName checks a function's name or ARN, which has no version or alias.
// https://docs.aws.amazon.com/lambda/latest/api/API_UpdateFunctionConfiguration.html
func checkName(name string) error {
	if strings.Contains(name, ":web-function/") {
		return fmt.Errorf("%q is a Web Function, which takes no layer and no events: live-lambda is for "+
			"functions with a handler", name)
	}
	parts := strings.Split(name, ":") // NAME, or arn:aws:lambda:REGION:ACCOUNT:function:NAME
	i := slices.Index(parts, "function")
	if strings.HasPrefix(name, "-") || len(parts[i+1:]) > 1 {
		return fmt.Errorf(
			"%q is not a function's name or ARN without version or alias; published versions cannot be "+
				"changed", name)
	}
	return nil
}

func isPattern(word string) bool { return strings.ContainsAny(word, "*?[") }

// pick returns the functions that words stand for, in their order, each once. listed tells which functions a
// pattern may match.
func (a awsCLI) pick(
	ctx context.Context, words []string, listed func(context.Context) ([]string, error),
) ([]string, error) {
	var all []string
	for _, word := range words {
		names, err := a.named(ctx, word, listed)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", plainText(word), err)
		}
		for _, name := range names {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	return all, nil
}

// named returns the functions that one word stands for.
func (a awsCLI) named(
	ctx context.Context, word string, listed func(context.Context) ([]string, error),
) (names []string, err error) {
	tag, isTag := strings.CutPrefix(word, tagWord)
	stack, isStack := strings.CutPrefix(word, stackWord)
	switch {
	case isTag:
		names, err = a.tagged(ctx, tag)
	case isStack:
		names, err = functionsIn(stack, func(stack string) ([]stackResource, error) {
			return a.stackResources(ctx, stack)
		})
	case isPattern(word):
		names, err = listed(ctx)
		names = slices.DeleteFunc(names, func(name string) bool {
			matches, _ := path.Match(word, name) // checkWord took it
			return !matches
		})
	default:
		return []string{word}, nil
	}
	if err == nil && len(names) == 0 {
		err = errors.New("no function matches; check the AWS CLI's region and profile")
	}
	slices.Sort(names)
	return names, err
}

// ---- what the AWS CLI tells ----

// functionNames returns the names of all functions of the account and region.
func (a awsCLI) functionNames(ctx context.Context) ([]string, error) {
	var names []string
	err := a.run(ctx, &names, nil, "lambda", "list-functions", "--query", "Functions[].FunctionName")
	return names, err
}

// tagged returns the functions that have a tag, KEY=VALUE or KEY. One call tells, and one permission,
// tag:GetResources, is enough: Lambda itself would have to be asked about each function.
// https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html
func (a awsCLI) tagged(ctx context.Context, tag string) ([]string, error) {
	key, value, hasValue := strings.Cut(tag, "=")
	filter := map[string]any{"Key": key}
	if hasValue {
		filter["Values"] = []string{value}
	}
	filters, _ := json.Marshal([]any{filter}) // strings always marshal
	var list struct {
		ResourceTagMappingList []struct{ ResourceARN string }
	}
	err := a.run(ctx, &list, nil, "resourcegroupstaggingapi", "get-resources", "--resource-type-filters",
		"lambda:function", "--tag-filters", string(asciiJSON(filters)))
	var names []string
	for _, resource := range list.ResourceTagMappingList {
		_, name, _ := strings.Cut(resource.ResourceARN, ":function:")
		if name != "" && !strings.Contains(name, ":") { // a version is none
			names = append(names, name)
		}
	}
	return names, err
}

// stackResource is one of a CloudFormation stack.
type stackResource struct{ ResourceType, ResourceStatus, PhysicalResourceID string }

// stackResources returns what is in a stack.
// https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ListStackResources.html
func (a awsCLI) stackResources(ctx context.Context, stack string) ([]stackResource, error) {
	var list struct{ StackResourceSummaries []stackResource }
	err := a.run(ctx, &list, nil, "cloudformation", "list-stack-resources", "--stack-name", stack)
	return list.StackResourceSummaries, err
}

// functionsIn returns the functions of a stack and of those nested in it. resources tells what is in one.
func functionsIn(stack string, resources func(stack string) ([]stackResource, error)) ([]string, error) {
	var names []string
	stacks := []string{stack}
	for i := 0; i < len(stacks); i++ {
		if i == maxStacks {
			return nil, fmt.Errorf("more than %d stacks are nested in it: name one of these", maxStacks)
		}
		found, err := resources(stacks[i])
		if err != nil {
			return nil, err
		}
		for _, r := range found {
			if r.ResourceStatus == "DELETE_COMPLETE" || r.PhysicalResourceID == "" {
				continue
			}
			switch r.ResourceType {
			case "AWS::Lambda::Function":
				names = append(names, r.PhysicalResourceID)
			case "AWS::CloudFormation::Stack":
				stacks = append(stacks, r.PhysicalResourceID)
			}
		}
	}
	return names, nil
}
