/** Addresses, networks and URLs as a configuration writes them. Each parser answers undefined for what is none. */
import { isIP } from 'node:net'

/** What a listener binds. */
export interface ListenAddress {
  /** A name or an IPv4 or IPv6 address without brackets; undefined: every address of the machine. */
  readonly host: string | undefined
  /** 0: any free one. */
  readonly port: number
}

const ADDRESS = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]*)):(\d{1,5})$/

/** `127.0.0.1:5010`, `[::1]:5010`, `localhost:5010`, `:5010`. */
export function parseAddress(text: string): ListenAddress | undefined {
  const [whole, ipv6, name, portText] = ADDRESS.exec(text) ?? []
  const port = Number(portText)
  if (whole === undefined || port > 65_535) return undefined
  if (ipv6 !== undefined) return isIP(ipv6) === 6 ? { host: ipv6, port } : undefined
  if (name && /^[\d.]+$/.test(name) && isIP(name) !== 4) return undefined
  return { host: name || undefined, port }
}

/** As it stands in a URL: `127.0.0.1:5010`, `[::1]:5010`. */
export function formatAddress(address: ListenAddress): string {
  const host = address.host ?? ''
  return `${host.includes(':') ? `[${host}]` : host}:${address.port}`
}

/** Whether nobody off this machine can reach it. */
export function isLoopback(address: ListenAddress): boolean {
  const { host } = address
  return (
    host === '::1' || host === 'localhost' || (isIP(host ?? '') === 4 && host?.startsWith('127.') === true)
  )
}

/** Whether it stands for every address of the machine, so that no client could be told to use it. */
export function isWildcard(address: ListenAddress): boolean {
  return address.host === undefined || address.host === '0.0.0.0' || /^[0:]+$/.test(address.host)
}

/** `10.0.0.0/8`, `fd00::/8`; a lone address stands for itself. */
export function parseCidr(text: string): string | undefined {
  const [address = '', bits, ...rest] = text.split('/')
  const family = isIP(address)
  if (family === 0 || rest.length > 0) return undefined
  if (bits === undefined) return text
  return /^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128) ? text : undefined
}

/** An http or https URL without a credential or fragment in it; answered as written. */
export function parseHttpUrl(text: string): string | undefined {
  const url = URL.parse(text)
  if (!url || !/^https?:\/\//i.test(text)) return undefined
  return url.username || url.password || url.hash ? undefined : text
}

/** Scheme, host and port, without a trailing slash; undefined when there is a path or a query. */
export function parseOrigin(text: string): string | undefined {
  const url = URL.parse(parseHttpUrl(text) ?? '')
  return url && url.pathname === '/' && !url.search ? url.origin : undefined
}
