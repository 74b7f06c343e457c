package settings

import (
	"fmt"
	"net/netip"
)

// Prefixes is a list of networks, each written as an IP address or in CIDR
// notation.
type Prefixes []netip.Prefix

// UnmarshalYAML sets p to the list that the file or a variable says.
func (p *Prefixes) UnmarshalYAML(unmarshal func(any) error) error {
	var texts []string
	if err := unmarshal(&texts); err != nil {
		return err
	}
	*p = nil
	for _, text := range texts {
		prefix, err := parsePrefix(text)
		if err != nil {
			return fmt.Errorf("%q is not an IP address or prefix; write one such as 10.0.0.0/8", text)
		}
		*p = append(*p, prefix)
	}
	return nil
}

// parsePrefix unmaps IPv4 in IPv6, which would otherwise match no IPv4 address,
// and refuses zones, which match no address at all.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return prefix.Masked(), nil
}
