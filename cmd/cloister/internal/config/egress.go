package config

import (
	"net/netip"
	"time"

	"github.com/cloister-health/cloister/fhir/record/egress"
)

// Inputs is the way to the hosts from which inputs of imports are fetched, and to the networks in
// which they may be; local says that this machine is one of them.
func (a *API) Inputs(local bool) (*egress.Guard, error) {
	c := egress.Config{Hosts: a.ImportHosts, Local: local}
	for _, text := range a.ImportNets {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fault("CLOISTER_IMPORT_NETWORKS", "has %q, which is no network: write it like 10.1.0.0/16", text)
		}
		c.Networks = append(c.Networks, p.Masked())
	}
	g, err := egress.New(c)
	if err != nil {
		return nil, fault("CLOISTER_IMPORT_HOSTS", "is wrong: %v", err)
	}
	return g, nil
}

// Webhooks is the way to the hosts to which notifications are sent; local says that this machine is one of them.
func (a *API) Webhooks(local bool) (*egress.Guard, error) {
	g, err := egress.New(egress.Config{Hosts: a.Hooks, Own: a.OwnHooks, Local: local, Dial: 5 * time.Second, Head: time.Minute})
	if err != nil {
		return nil, fault("CLOISTER_WEBHOOK_HOSTS", "or CLOISTER_WEBHOOK_PRIVATE_HOSTS is wrong: %v", err)
	}
	return g, nil
}
