// Package smart reads SMART App Launch scopes (v1 and v2) and answers which
// interactions they leave open.
package smart
