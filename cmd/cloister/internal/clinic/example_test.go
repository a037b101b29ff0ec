package clinic_test

import (
	"fmt"
	"time"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
)

// A clinic is loaded batch by batch, in the order in which it comes.
func ExampleGenerate() {
	c := clinic.Config{Seed: 1, Patients: 12, Now: time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)}
	done, total := 0, clinic.Total(c)
	for b := range clinic.Generate(c) {
		done++
		if b.Patient == "" {
			fmt.Printf("%d/%d %s: begins with %s\n", done, total, b.Title, b.Resources[0].Get("resourceType"))
		}
	}
	fmt.Println(done == total)
	// Output:
	// 1/15 directory of Harbor Behavioral Health: begins with Organization
	// 11/15 directory of Lakeside Counseling: begins with Organization
	// 15/15 panel of Harbor Behavioral Health: begins with Group
	// true
}

// Personas say which tokens to sign and what to try with them.
func ExamplePersonas() {
	c := clinic.Config{Seed: 1, Now: time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)}
	for _, p := range clinic.Personas(c)[:2] {
		fmt.Println(p.Name, p.Claims.Roles, p.Claims.Purpose, p.Requests[0].Status)
	}
	// Output:
	// therapist [therapist] TREAT 200
	// colleague [therapist] TREAT 404
}
