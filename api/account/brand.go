package account

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Brand is how a practice looks to those who sign in.
type Brand struct {
	Practice string // slug; "" for the house
	Name     string
	Color    string // of the bar and the buttons, "#rrggbb"; "" for the house's
	Dark     string // the same on dark pages; "" for the house's
	Logo     string // file name below /smart/style/brand, or ""
	css      []byte
}

// Brands are those of the practices. The zero value knows none.
type Brands struct {
	by    map[string]Brand
	files map[string][]byte
}

// The pages' own backgrounds, against which the color of a practice must stand out.
const (
	lightPage = "#ffffff"
	darkPage  = "#14181d"
	// leastContrast is what WCAG 2.2 asks of parts of the user interface (success criterion 1.4.11).
	leastContrast = 3.0
	// leastText is what it asks of text (1.4.3).
	leastText = 4.5

	maxLogo = 256 << 10
	maxName = 60
)

// ReadBrands reads NAME.json (name, color, dark) and NAME.png or NAME.svg of each practice from a folder, where NAME
// is the slug of the practice, or "default" for pages on which no practice is known yet. Whatever is wrong is an error.
func ReadBrands(dir fs.FS) (*Brands, error) {
	b := &Brands{by: map[string]Brand{}, files: map[string][]byte{}}
	names, err := fs.Glob(dir, "*.json")
	if err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	for _, file := range names {
		slug, _ := strings.CutSuffix(file, ".json")
		brand, err := b.read(dir, slug)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if slug == "default" {
			slug = ""
		}
		b.by[slug] = brand
	}
	return b, nil
}

func (b *Brands) read(dir fs.FS, slug string) (Brand, error) {
	if slug == "" || strings.Trim(slug, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return Brand{}, errors.New("the name of the file is not that of a practice")
	}
	text, err := fs.ReadFile(dir, slug+".json")
	if err != nil {
		return Brand{}, fmt.Errorf("account: %w", err)
	}
	var in struct{ Name, Color, Dark string }
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return Brand{}, errors.New("it is no JSON object of name, color and dark")
	}
	if n := utf8.RuneCountInString(in.Name); n == 0 || n > maxName {
		return Brand{}, fmt.Errorf("name must have 1 to %d characters", maxName)
	}
	brand := Brand{Practice: slug, Name: in.Name, Color: in.Color, Dark: in.Dark}
	if brand.css, err = sheet(in.Color, in.Dark); err != nil {
		return Brand{}, err
	}
	if brand.css != nil {
		b.files[slug+".css"] = brand.css
	}
	for _, ext := range []string{".png", ".svg"} {
		f, err := dir.Open(slug + ext)
		if err != nil {
			continue
		}
		logo, err := io.ReadAll(io.LimitReader(f, maxLogo+1))
		_ = f.Close()
		if err != nil {
			return Brand{}, fmt.Errorf("account: %w", err)
		}
		if len(logo) > maxLogo {
			return Brand{}, fmt.Errorf("its logo has more than %d bytes", maxLogo)
		}
		brand.Logo, b.files[slug+ext] = slug+ext, logo
		break
	}
	return brand, nil
}

// of is the brand of a practice, or the house's.
func (b *Brands) of(practice string) Brand {
	if x, ok := b.by[practice]; ok {
		return x
	}
	if practice != "" { // its name in the least wrong form
		return Brand{Name: strings.ToUpper(practice[:1]) + strings.ReplaceAll(practice[1:], "-", " ")}
	}
	return Brand{Name: "Cloister"}
}

// Sheet is the address of the brand's own style sheet below /smart/style/, or "".
func (b Brand) Sheet() string {
	if b.css == nil {
		return ""
	}
	return "brand/" + b.Practice + ".css"
}

// sheet is the style sheet that a pair of colors makes. A color that people with low vision could not tell from the
// page is refused with the contrast that it has.
func sheet(light, dark string) ([]byte, error) {
	if light == "" && dark == "" {
		return nil, nil
	}
	if light == "" {
		return nil, errors.New("dark is set, and color is not")
	}
	if dark == "" {
		dark = light
	}
	var b strings.Builder
	for _, c := range []struct{ field, color, page, before, after string }{
		{"color", light, lightPage, "", ""},
		{"dark", dark, darkPage, "@media (prefers-color-scheme: dark) {\n", "}\n"},
	} {
		l, err := luminance(c.color)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.field, err)
		}
		back, err := luminance(c.page)
		if err != nil {
			return nil, err
		}
		if got := contrast(l, back); got < leastContrast {
			return nil, fmt.Errorf("%s: %s on a page of %s has a contrast of %.2f, and WCAG 2.2 asks for %.0f: set color and dark to two shades of it", c.field, c.color, c.page, got, leastContrast)
		}
		text := "#ffffff"
		if contrast(l, 1) < leastText {
			text = "#000000" // one of the two always has it
		}
		fmt.Fprintf(&b, "%s:root { --brand: %s; --on-brand: %s; }\n%s", c.before, c.color, text, c.after)
	}
	return []byte(b.String()), nil
}

// luminance is the relative luminance of "#rrggbb" (WCAG 2.2, definition).
func luminance(color string) (float64, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(color, "#"), 16, 32)
	if err != nil || len(color) != 7 || color[0] != '#' {
		return 0, errors.New("a color is written as #rrggbb")
	}
	l := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		c := float64(n>>(16-8*i)&0xff) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		l += weight * c
	}
	return l, nil
}

// contrast is the contrast ratio of two luminances, 1 to 21.
func contrast(a, b float64) float64 { return (max(a, b) + 0.05) / (min(a, b) + 0.05) }

// styleLife is how long a browser keeps style; the pages themselves it does not keep.
const styleLife = time.Hour

func (p *Pages) style(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	text, err := files.ReadFile("style/" + name)
	if err != nil {
		p.fail(w, r, http.StatusNotFound, "There is no such page", "Check the address.")
		return
	}
	serve(w, name, text)
}

func (p *Pages) brandFile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	text, ok := p.Brands.files[name]
	if !ok {
		p.fail(w, r, http.StatusNotFound, "There is no such page", "Check the address.")
		return
	}
	serve(w, name, text)
}

func serve(w http.ResponseWriter, name string, text []byte) {
	kind := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".png": "image/png", ".svg": "image/svg+xml"}[path.Ext(name)]
	if kind == "" {
		kind = "application/octet-stream"
	}
	h := w.Header()
	// A picture opened by itself is a document of this origin: it may run nothing.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'")
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", styleLife/time.Second))
	_, _ = w.Write(text) //nolint:gosec // embedded, or of the operator, in a sandbox; a client that went away is not our fault
}
