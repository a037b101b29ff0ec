package account

import (
	"fmt"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// square is a QR code as the path of an SVG: one unit per module, with the quiet zone of four (ISO/IEC 18004, 6.3.8).
type square struct {
	Size int
	Path string
}

const quiet = 4

// drawQR draws text. The picture stands in the page itself: an address of its own would carry the secret.
func drawQR(text string) (square, error) {
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return square{}, fmt.Errorf("account: %w", err)
	}
	size := code.Bounds().Dx()
	var b strings.Builder
	for y := range size {
		for x := range size {
			if dark, _, _, _ := code.At(x, y).RGBA(); dark == 0 {
				fmt.Fprintf(&b, "M%d %dh1v1h-1z", x+quiet, y+quiet)
			}
		}
	}
	return square{Size: size + 2*quiet, Path: b.String()}, nil
}
