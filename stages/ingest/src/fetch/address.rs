//! Which addresses may be connected to: public ones, and those that the configuration lists.
//!
//! Invariant: an address that carries another one (IPv4-mapped, NAT64) is judged by the one it carries; all that is not
//! known to be global unicast is refused.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A range of addresses: one address, or CIDR such as `10.0.0.0/8` or `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct AddressRange {
    network: IpAddr,
    prefix_bits: u8,
}

/// Text that is no address range.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no address range: write an address, or CIDR such as 10.0.0.0/8")]
pub struct InvalidAddressRange(String);

impl AddressRange {
    /// Whether `address` lies within.
    pub fn contains(&self, address: IpAddr) -> bool {
        let all_bits = bits_of(self.network);
        let shift = u32::from(all_bits - self.prefix_bits);
        all_bits == bits_of(address)
            && (number_of(self.network) ^ number_of(address))
                .checked_shr(shift)
                .unwrap_or(0)
                == 0
    }
}

impl FromStr for AddressRange {
    type Err = InvalidAddressRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAddressRange(text.to_owned());
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let network: IpAddr = address.parse().map_err(|_| invalid())?;
        let all_bits = bits_of(network);
        let prefix_bits = prefix
            .map_or(Ok(all_bits), str::parse)
            .map_err(|_| invalid())?;
        if prefix_bits > all_bits {
            Err(invalid())
        } else {
            Ok(Self {
                network,
                prefix_bits,
            })
        }
    }
}

impl TryFrom<String> for AddressRange {
    type Error = InvalidAddressRange;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> Self {
        format!("{}/{}", range.network, range.prefix_bits)
    }
}

/// Why `address` may not be connected to; `None` where it may.
pub(super) fn why_forbidden(address: IpAddr, allowed: &[AddressRange]) -> Option<&'static str> {
    let meant = meant_by(address);
    if allowed
        .iter()
        .any(|range| range.contains(address) || range.contains(meant))
    {
        return None;
    }
    match meant {
        IpAddr::V4(address) => why_not_global_v4(address),
        IpAddr::V6(address) => why_not_global_v6(address),
    }
}

/// The address that a packet ends up at: an IPv6 address may carry an IPv4 one.
fn meant_by(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    if let Some(mapped) = v6.to_ipv4_mapped() {
        return IpAddr::V4(mapped);
    }
    match v6.segments() {
        // NAT64 (RFC 6052): on networks without IPv4 every public name resolves to this.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => IpAddr::V4(Ipv4Addr::from_bits(
            (u32::from(high) << 16) | u32::from(low),
        )),
        _ => address,
    }
}

fn why_not_global_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("its address means this host"),
        [127, ..] => Some("its address is loopback"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("its address is private"),
        [100, 64..=127, ..] => Some("its address is shared behind a carrier's NAT"),
        [169, 254, ..] => Some("its address is link-local"),
        [192, 0, 0, _]
        | [192, 88, 99, _]
        | [192, 31, 196, _]
        | [192, 52, 193, _]
        | [192, 175, 48, _] => Some("its address is reserved for protocols"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Some("its address is for documentation")
        }
        [198, 18..=19, ..] => Some("its address is for benchmarks"),
        [224..=239, ..] => Some("its address is multicast"),
        [240..=255, ..] => Some("its address is reserved"),
        _ => None,
    }
}

fn why_not_global_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("its address means this host"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("its address is loopback"),
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Some("its address is private"),
        [0xfe80..=0xfebf, ..] => Some("its address is link-local"),
        [0xff00..=0xffff, ..] => Some("its address is multicast"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Some("its address is for documentation"),
        // Teredo, benchmarks, ORCHID and other protocols; 6to4.
        [0x2001, 0..=0x01ff, ..] | [0x2002, ..] => Some("its address is reserved for protocols"),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("its address is reserved"),
    }
}

fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden(text: &str) -> bool {
        why_forbidden(text.parse().unwrap(), &[]).is_some()
    }

    #[test]
    fn only_global_unicast_is_public() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
        ] {
            assert!(forbidden(address), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.0.1",
            "192.1.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001:80b::200e",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(!forbidden(address), "{address}");
        }
    }

    #[test]
    fn ranges_allow_what_they_contain() {
        let allowed: Vec<AddressRange> = ["127.0.0.0/8", "10.1.2.3", "fd00::/8", "0.0.0.0/32"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        for (address, is_allowed) in [
            ("127.9.9.9", true),
            ("::ffff:127.0.0.1", true),
            ("64:ff9b::7f00:1", true),
            ("10.1.2.3", true),
            ("10.1.2.4", false),
            ("fd00::1", true),
            ("fc00::1", false),
            ("::1", false),
            ("0.0.0.0", true),
            ("0.0.0.1", false),
        ] {
            assert_eq!(
                why_forbidden(address.parse().unwrap(), &allowed).is_none(),
                is_allowed,
                "{address}"
            );
        }
        assert!(
            "0.0.0.0/0"
                .parse::<AddressRange>()
                .unwrap()
                .contains("9.9.9.9".parse().unwrap())
        );
        for text in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "localhost",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
        ] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
        assert_eq!(
            String::from("10.1.2.3".parse::<AddressRange>().unwrap()),
            "10.1.2.3/32"
        );
    }
}
