package codec

import (
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/element"
)

func TestPrimitives(t *testing.T) {
	for name, c := range map[string]struct{ good, bad []string }{
		"date": {
			[]string{"2024", "2024-02", "2024-02-29", "0001-01-01", "9999-12-31"},
			[]string{"0000", "24", "2024-13", "2024-00", "2023-02-29", "2024-04-31", "2024-2-1", "2024-02-29T", "2024-02-", "2024-", "20240229", " 2024", "２０２４"},
		},
		"dateTime": {
			[]string{"2024", "2024-02", "2024-02-29", "2024-02-29T23:59:59Z", "2024-02-29T00:00:00.123456789+14:00", "2016-12-31T23:59:60Z", "2024-01-01T00:00:00-00:00"},
			[]string{"2024-02-29T10:00Z", "2024-02-29T10:00:00", "2024-02-29 10:00:00Z", "2024-02-29T24:00:00Z", "2024-02-29T10:60:00Z", "2024-02-29T10:00:61Z", "2024-02-30T10:00:00Z", "2024-02T10:00:00Z", "2024-01-01T00:00:00z", "2024-01-01T00:00:00+14:01", "2024-01-01T00:00:00+1:00", "2024-01-01T00:00:00.Z", "2024-01-01T00:00:00Z ", "2024-01-01T00:00:00.1234567890123456789Z"},
		},
		"instant": {
			[]string{"2024-02-29T10:00:00Z", "2024-02-29T10:00:00.5-05:00"},
			[]string{"2024-02-29", "2024", "2024-02-29T10:00:00"},
		},
		"time":         {[]string{"00:00:00", "23:59:59.999", "23:59:60"}, []string{"24:00:00", "10:00", "10:00:00Z", "1:00:00", "10:00:00."}},
		"id":           {[]string{"a", "A-1.b", strings.Repeat("x", 64)}, []string{"a_b", "a b", "ä", strings.Repeat("x", 65), "a/b"}},
		"code":         {[]string{"a", "a b", "<=", "a\tb"}, []string{" a", "a ", "a  b", "\n", "a\u0001b"}},
		"uri":          {[]string{"http://a/b", "urn:x", "Patient/1", "a|b", "ü"}, []string{"a b", "a\n", " ", "a\u007fb"}},
		"url":          {[]string{"mailto:a@b"}, []string{"a b"}},
		"canonical":    {[]string{"http://a|1#x"}, []string{"a b"}},
		"oid":          {[]string{"urn:oid:1.2.3", "urn:oid:0.0", "urn:oid:2.16.840.1.113883"}, []string{"1.2.3", "urn:oid:3.1", "urn:oid:1", "urn:oid:1.02", "urn:oid:1.", "urn:oid:1..2", "urn:oid:12.3", "URN:OID:1.2"}},
		"uuid":         {[]string{"urn:uuid:c757873d-ec9a-4326-a141-556f43239520"}, []string{"c757873d-ec9a-4326-a141-556f43239520", "urn:uuid:C757873D-EC9A-4326-A141-556F43239520", "urn:uuid:c757873d-ec9a-4326-a141-55643239520"}},
		"string":       {[]string{"x", " x ", "a\r\n\tb", "日本"}, []string{"a\u0001b", "\u001b[31m", strings.Repeat("x", maxString+1)}},
		"markdown":     {[]string{"# x\n\ny"}, []string{"\u0002"}},
		"base64Binary": {[]string{"AAAA", "AA==", "AAA=", "AA AB\nBBBB", "+/+/"}, []string{"A", "AAA", "A===", "AA=A", "-_-_", "AAAA=", "===="}},
	} {
		for _, s := range c.good {
			if wrong := primitives[name].wrong(element.NewString(s)); wrong != "" {
				t.Errorf("%s %.40q is refused: %s", name, s, wrong)
			}
		}
		for _, s := range append(c.bad, "") {
			if primitives[name].wrong(element.NewString(s)) == "" {
				t.Errorf("%s %.40q is accepted", name, s)
			}
		}
		if primitives[name].wrong(&element.Node{Kind: element.Number, Text: "1"}) == "" {
			t.Errorf("%s accepts a number", name)
		}
	}
	for name, c := range map[string]struct{ good, bad []string }{
		"integer":     {[]string{"0", "-1", "2147483647", "-2147483648"}, []string{"2147483648", "-2147483649", "1.0", "1e2", "-0", "99999999999999999999"}},
		"positiveInt": {[]string{"1", "2147483647"}, []string{"0", "-1", "2147483648"}},
		"unsignedInt": {[]string{"0", "5"}, []string{"-1", "0.5"}},
		"decimal":     {[]string{"0", "-0.0", "1.00", "1e3", "1.0E-22", "3.1415926535897932384626433832795028841971"}, []string{"1e99999", "1e-1001", "1" + strings.Repeat("0", maxDecimal), "1e99999999999999999999"}},
	} {
		for _, s := range c.good {
			if wrong := primitives[name].wrong(&element.Node{Kind: element.Number, Text: s}); wrong != "" {
				t.Errorf("%s %s is refused: %s", name, s, wrong)
			}
		}
		for _, s := range c.bad {
			if primitives[name].wrong(&element.Node{Kind: element.Number, Text: s}) == "" {
				t.Errorf("%s %.40s is accepted", name, s)
			}
		}
		if primitives[name].wrong(element.NewString("1")) == "" {
			t.Errorf("%s accepts a string", name)
		}
	}
	if boolean.wrong(&element.Node{Kind: element.Bool, Text: "true"}) != "" || boolean.wrong(element.NewString("true")) == "" {
		t.Error("boolean")
	}
}

func TestNarrative(t *testing.T) {
	div := func(s string) string { return `<div xmlns="http://www.w3.org/1999/xhtml">` + s + `</div>` }
	for _, s := range []string{
		div("x"), div("<p>a<br/>b</p>"), div(`<img src="data:image/png;base64,AAAA" alt="x"/>`), div(`<a href="Patient/1">x</a>`), div(`<a name="n">x</a>`),
		div(`<a href='https://example.org/?a=1&amp;b=2'>x</a>`), div(`<table border="1"><tr><td colspan="2">x</td></tr></table>`), div("<!-- a note -->x"), div("&lt;script&gt;"),
		div(`<p style="color: red; background: url(data:image/png;base64,AAAA)">x</p>`), div("&#160;x&#xe9;"), " " + div("x") + "\n", `<div xml:lang="de" xmlns='http://www.w3.org/1999/xhtml'>x</div >`, div(`<a href="#part">x</a>`),
	} {
		if wrong := wrongXHTML(s); wrong != "" {
			t.Errorf("%s is refused: %s", s, wrong)
		}
	}
	for _, s := range []string{
		"", "x", "<p>x</p>", "<div>x</div>", `<div xmlns="http://www.w3.org/2000/svg">x</div>`, div(""), div(" \n&#"), div("<p> </p>"), div("x") + div("y"), div("x") + "y", `<div xmlns="http://www.w3.org/1999/xhtml"/>`,
		div("<script>x</script>"), div("<SCRIPT>x</SCRIPT>"), div("<P>x</P>"), div("<iframe src='x'></iframe>"), div("<form>x</form>"), div("<object>x</object>"), div("<style>x</style>"), div("<svg>x</svg>"), div("<head>x</head>"), div("<input/>x"), div("<base href='x'/>"), div("<h:p>x</h:p>"),
		div(`<p onclick="x">x</p>`), div(`<p ONCLICK="x">x</p>`), div(`<img src="x" onerror="y"/>`), div(`<a href="javascript:x">x</a>`), div(`<a href="JaVaScRiPt:x">x</a>`), div(`<a href=" javascript:x">x</a>`), div(`<a href="java&#10;script:x">x</a>`), div(`<a href="&#106;avascript:x">x</a>`),
		div(`<a href="vbscript:x">x</a>`), div(`<a href="data:text/html,x">x</a>`), div(`<img src="data:image/svg+xml,x"/>`), div(`<img src="data:text/html,x"/>`), div(`<p src="x">x</p>`), div(`<q cite="javascript:x">x</q>`),
		div(`<p style="background: url(http://e/x)">x</p>`), div(`<p style="background: u\72l(http://e/x)">x</p>`), div(`<p style="background: url(data:image/svg+xml,x)">x</p>`), div(`<p style="width: expression(x)">x</p>`), div(`<p style="behavior: x">x</p>`), div(`<p style="u/**/rl(x)">x</p>`), div(`<p style="url(x">x</p>`), div(`<p style="@import 'x'">x</p>`),
		div("<!--><script>x</script>-->y"), div("<!-- -- -->y"), div("<!--->y-->"), div("<!-- x --!>y"), div("<!-- x"), div("<![CDATA[x]]>"), div("<?x y?>z"), "<!DOCTYPE div>" + div("x"), div("x ]]> y"),
		div("<p>x"), div("x</p>"), div("<p><b>x</p></b>"), div("<p class=x>x</p>"), div(`<p class="x" class="y">z</p>`), div(`<p class="x"id="y">z</p>`), div("<p class>x</p>"), div(`<p class="<">x</p>`), div("a & b"), div("&nbsp;x"), div("&#0;x"), div("&#xD800;x"), div("&#x1F;x"), div("a\u0001"), div(strings.Repeat("<b>", 300) + "x" + strings.Repeat("</b>", 300)), div(`<p xmlns="urn:x">y</p>`), div("<"), div("<p"), div("<p class='x"),
	} {
		if wrongXHTML(s) == "" {
			t.Errorf("%.120s is accepted", s)
		}
	}
}

func FuzzNarrative(f *testing.F) {
	f.Add(`<div xmlns="http://www.w3.org/1999/xhtml"><p style="a:url(data:image/png;base64,x)">&#x41;</p><!-- x --></div>`)
	f.Fuzz(func(t *testing.T, s string) {
		if wrongXHTML(s) != "" {
			return
		}
		for _, bad := range []string{"<script", "<iframe", "<style", "<svg", "<!doctype", "<!-->", "<?"} {
			if strings.Contains(strings.ToLower(s), bad) {
				t.Errorf("%q is accepted", s)
			}
		}
	})
}
