package fhirpath

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// pattern is a regular expression that was a literal, compiled with the expression.
type pattern struct{ re *regexp.Regexp }

// maxPattern bounds the text of a regular expression in bytes. RE2 matches in time linear in the text.
const maxPattern = 1000

// prepare compiles what an expression can compile once.
func (n *node) prepare(at int) error {
	if (n.name != "matches" && n.name != "matchesFull" && n.name != "replaceMatches") || n.args[0].op != opLiteral {
		return nil
	}
	re, err := compilePattern(n.args[0].value.text, n.name == "matchesFull")
	if err != nil {
		return &SyntaxError{at, "the regular expression is not one that is supported (RE2)"}
	}
	n.re = re
	return nil
}

func compilePattern(s string, full bool) (*regexp.Regexp, error) {
	if len(s) > maxPattern {
		return nil, ErrText
	}
	if full {
		s = "^(?:" + s + ")$"
	}
	return regexp.Compile("(?s)" + s)
}

// onText makes a function of one String; nothing gives nothing.
func onText(lo, hi int, f func(ev *evaluator, n *node, in string, args []Value, s scope) ([]Value, error)) *function {
	return &function{min: lo, max: hi, call: func(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
		if len(in) == 0 {
			return nil, nil
		}
		if len(in) > 1 {
			return nil, ErrSingle
		}
		if in[0].kind != String {
			return nil, ErrType
		}
		if !in[0].usable() {
			return nil, nil
		}
		args := make([]Value, len(n.args))
		for i, a := range n.args {
			v, err := ev.single(a, s)
			if err != nil || v == nil {
				return nil, err
			}
			args[i] = *v
		}
		if err := ev.step(len(in[0].text) >> 6); err != nil {
			return nil, err
		}
		return f(ev, n, in[0].text, args, s)
	}}
}

// withText is onText with String arguments.
func withText(lo, hi int, f func(ev *evaluator, n *node, in string, args []string) ([]Value, error)) *function {
	return onText(lo, hi, func(ev *evaluator, n *node, in string, args []Value, _ scope) ([]Value, error) {
		texts := make([]string, len(args))
		for i := range args {
			if args[i].kind != String {
				return nil, ErrType
			}
			texts[i] = args[i].text
		}
		return f(ev, n, in, texts)
	})
}

func test(f func(in, arg string) bool) *function {
	return withText(1, 1, func(_ *evaluator, _ *node, in string, args []string) ([]Value, error) { return is(f(in, args[0])) })
}

func turn(f func(string) string) *function {
	return withText(0, 0, func(ev *evaluator, _ *node, in string, _ []string) ([]Value, error) { return ev.newText(f(in)) })
}

func textFunctions() map[string]*function {
	return map[string]*function{
		"startsWith": test(strings.HasPrefix),
		"endsWith":   test(strings.HasSuffix),
		"contains":   test(strings.Contains),
		"upper":      turn(strings.ToUpper),
		"lower":      turn(strings.ToLower),
		"trim":       turn(strings.TrimSpace),
		"indexOf": withText(1, 1, func(_ *evaluator, _ *node, in string, args []string) ([]Value, error) {
			i := strings.Index(in, args[0])
			if i > 0 {
				i = utf8.RuneCountInString(in[:i])
			}
			return []Value{integer(int64(i))}, nil
		}),
		"length": withText(0, 0, func(_ *evaluator, _ *node, in string, _ []string) ([]Value, error) {
			return []Value{integer(int64(utf8.RuneCountInString(in)))}, nil
		}),
		"substring": onText(1, 2, substring),
		"replace": withText(2, 2, func(ev *evaluator, _ *node, in string, args []string) ([]Value, error) {
			if n := strings.Count(in, args[0]); len(in)+n*(len(args[1])-len(args[0])) > ev.opts.Limits.Text {
				return nil, ErrText
			}
			return ev.newText(strings.ReplaceAll(in, args[0], args[1]))
		}),
		"matches":     withText(1, 1, matches(false)),
		"matchesFull": withText(1, 1, matches(true)),
		"replaceMatches": withText(2, 2, func(ev *evaluator, n *node, in string, args []string) ([]Value, error) {
			re, err := n.pattern.or(ev, args[0], in, false)
			if err != nil {
				return nil, err
			}
			if n := len(re.FindAllStringIndex(in, -1)); len(in)+n*(len(in)+len(args[1])) > 64*ev.opts.Limits.Text {
				return nil, ErrText
			}
			return ev.newText(re.ReplaceAllString(in, args[1]))
		}),
		"toChars": withText(0, 0, func(ev *evaluator, _ *node, in string, _ []string) ([]Value, error) {
			if len(in) > ev.opts.Limits.Items {
				return nil, ErrItems
			}
			var out []Value
			for _, r := range in {
				out = append(out, text(string(r)))
			}
			return out, nil
		}),
		"split": withText(1, 1, func(ev *evaluator, _ *node, in string, args []string) ([]Value, error) {
			if strings.Count(in, args[0]) >= ev.opts.Limits.Items {
				return nil, ErrItems
			}
			var out []Value
			for _, s := range strings.Split(in, args[0]) {
				out = append(out, text(s))
			}
			return out, nil
		}),
		"join": {max: 1, call: join},
	}
}

// or is the compiled pattern, or s as one; both compiling and matching are counted.
func (p pattern) or(ev *evaluator, s, in string, full bool) (*regexp.Regexp, error) {
	if err := ev.step(len(in) * (16 + len(s)) >> 8); err != nil {
		return nil, err
	}
	if p.re != nil {
		return p.re, nil
	}
	if err := ev.step(500 + 20*len(s)); err != nil {
		return nil, err
	}
	re, err := compilePattern(s, full)
	if err != nil {
		return nil, ErrType
	}
	return re, nil
}

func matches(full bool) func(*evaluator, *node, string, []string) ([]Value, error) {
	return func(ev *evaluator, n *node, in string, args []string) ([]Value, error) {
		re, err := n.pattern.or(ev, args[0], in, full)
		if err != nil {
			return nil, err
		}
		return is(re.MatchString(in))
	}
}

func substring(ev *evaluator, _ *node, in string, args []Value, _ scope) ([]Value, error) {
	runes := []rune(in)
	from, ok := parseInt(args[0].text)
	if !ok || args[0].kind != Integer {
		return nil, ErrType
	}
	if from < 0 || from >= int64(len(runes)) {
		return nil, nil
	}
	to := int64(len(runes))
	if len(args) == 2 {
		n, ok := parseInt(args[1].text)
		if !ok || args[1].kind != Integer {
			return nil, ErrType
		}
		if n < to-from {
			to = from + max(0, n)
		}
	}
	return ev.newText(string(runes[from:to]))
}

func join(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
	sep := ""
	if len(n.args) == 1 {
		v, err := ev.single(n.args[0], s)
		if err != nil || v == nil {
			return nil, err
		}
		sep = v.text
	}
	var b strings.Builder
	for i := range in {
		if in[i].kind != String {
			return nil, ErrType
		}
		if b.Len() > ev.opts.Limits.Text {
			return nil, ErrText
		}
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(in[i].text)
	}
	if len(in) == 0 {
		return nil, nil
	}
	return ev.newText(b.String())
}
