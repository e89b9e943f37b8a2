/** The proxies everybody's programs go through: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, in either case. */
import type { Environment, Fault } from './source.ts'

export interface Proxies {
  /** For http targets. URLs; a credential in them goes to the proxy. */
  readonly httpProxy: string | undefined
  /** For https targets. */
  readonly httpsProxy: string | undefined
  /** As written: hosts, domains and ports, by commas or spaces; `*` for all. */
  readonly noProxy: string | undefined
}

/** The lower-case name wins, as with curl and undici. An empty variable is an unset one. */
export function readProxies(environment: Environment): { proxies: Proxies; faults: Fault[] } {
  const faults: Fault[] = []
  const variable = (name: string) => environment[name.toLowerCase()] || environment[name] || undefined
  const proxy = (name: string) => {
    const text = variable(name)
    if (text === undefined) return undefined
    const url = URL.parse(text.includes('://') ? text : `http://${text}`)
    if (url && (url.protocol === 'http:' || url.protocol === 'https:')) return url.href
    faults.push({ path: name, message: 'expected the URL of an http or https proxy' })
    return undefined
  }
  const proxies = {
    httpProxy: proxy('HTTP_PROXY'),
    httpsProxy: proxy('HTTPS_PROXY'),
    noProxy: variable('NO_PROXY'),
  }
  return { proxies, faults }
}

/** A proxy's URL without the password in it, to be shown. */
export function withoutPassword(proxy: string): string {
  const url = URL.parse(proxy)
  if (!url?.password) return proxy
  url.password = '********'
  return url.href
}
