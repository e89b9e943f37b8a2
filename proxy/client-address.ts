/**
 * The client's true address. `X-Forwarded-For` is anybody's word, so it is read from the right and believed only as far
 * as the hops are `http.trustedproxies`.
 */
import { BlockList, isIP } from 'node:net'

export interface ClientAddress {
  readonly address: string
  /** For the next hop's `X-Forwarded-For`: the believed part of the chain, then the peer we saw. */
  readonly forwardedFor: string
}

/** `trustedProxies` are addresses or CIDR ranges, IPv4 or IPv6; they have been validated by the configuration. */
export function createClientAddress(
  trustedProxies: readonly string[],
): (peer: string | undefined, forwardedFor: string | undefined) => ClientAddress {
  const trusted = new BlockList()
  for (const entry of trustedProxies) {
    const [address = '', prefix] = entry.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    if (prefix === undefined) trusted.addAddress(address, family)
    else trusted.addSubnet(address, Number(prefix), family)
  }
  const isTrusted = (address: string) => trusted.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')

  return (peer, forwardedFor) => {
    let address = withoutMapping(peer ?? 'unknown')
    if (!forwardedFor) return { address, forwardedFor: address }
    const chain = [address]
    const claimed = forwardedFor && isIP(address) !== 0 && isTrusted(address) ? forwardedFor.split(',') : []
    while (claimed.length > 0 && isTrusted(address)) {
      const next = withoutMapping(claimed.pop()?.trim() ?? '')
      if (isIP(next) === 0) break
      address = next
      chain.unshift(address)
    }
    return { address, forwardedFor: chain.join(', ') }
  }
}

/** A dual-stack listener sees IPv4 peers as `::ffff:192.0.2.1`. */
function withoutMapping(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address
}
