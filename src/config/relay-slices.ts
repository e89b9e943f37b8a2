/** The slices of a relay, and of a site that follows one. */
import type { RepositoryName } from '../oci/reference.ts'
import type { ListenAddress } from './addresses.ts'
import type { Secret } from './secret.ts'
import type { Values } from './settings.ts'
import type { CertificateFiles } from './slices.ts'

/** A site's side. */
export interface FollowConfig {
  /** The relay's origin, without a trailing slash. */
  readonly url: string
  /** What it knows this site by. */
  readonly token: Secret
  /** Trusted beside the system's certificates. */
  readonly caFile: string | undefined
}

export interface TagsConfig {
  readonly trustMs: number
  readonly freshness: 'ask' | 'watermark'
  /** How old a watermark may be that confirms a tag; undefined with `ask`: none confirms any. */
  readonly maxStalenessMs: number | undefined
}

export interface RelayConfig {
  /** Where sites ask for the log. */
  readonly listen: ListenAddress
  /** Undefined: plain HTTP. */
  readonly tls: CertificateFiles | undefined
  /** Where the primary's registry sends its notifications. */
  readonly events: { readonly listen: ListenAddress; readonly secret: Secret }
  /** The origins of every process of the registry; empty: not named, and there is no watermark. */
  readonly instances: readonly string[]
  readonly canary: { readonly repository: RepositoryName; readonly kind: 'pull' | 'push' }
  /** Events that wait in one process of the registry before it drops any. */
  readonly queueSize: number
  readonly retention: { readonly ageMs: number; readonly bytes: number }
  /** At least one; names and tokens are each site's own. */
  readonly sites: readonly { readonly name: string; readonly token: Secret }[]
}

/** Makes a secret of a value or a file, and remembers it; undefined without either. */
export type MakeSecret = (value: string | undefined, file: string | undefined) => Secret | undefined

export function tagsSlice(values: Values): TagsConfig {
  const freshness = values['tags.freshness']
  return {
    trustMs: values['tags.trust'],
    freshness,
    maxStalenessMs: freshness === 'watermark' ? values['tags.maxstaleness'] : undefined,
  }
}

export function followSlice(values: Values, secret: MakeSecret): FollowConfig | undefined {
  const url = values['relay.url']
  const token = secret(values['relay.token'], values['relay.tokenfile'])
  return url && token ? { url, token, caFile: values['relay.cafile'] } : undefined
}

/** `notificationSecret`: the rules have made sure that there is one, and of the address. */
export function relaySlice(
  values: Values,
  notificationSecret: Secret | undefined,
  secret: MakeSecret,
): RelayConfig | undefined {
  const events = values['http.events.addr']
  const [certificateFile, keyFile] = [values['relay.tls.certificate'], values['relay.tls.key']]
  if (!events || !notificationSecret) return undefined
  return {
    listen: values['relay.addr'],
    tls: certificateFile && keyFile ? { certificateFile, keyFile } : undefined,
    events: { listen: events, secret: notificationSecret },
    instances: values['relay.instances'] ?? [],
    canary: { repository: values['relay.canary.repository'], kind: values['relay.canary.kind'] },
    queueSize: values['relay.queuesize'],
    retention: { ageMs: values['relay.retention.age'], bytes: values['relay.retention.size'] },
    sites: (values['relay.sites'] ?? []).flatMap(({ name, tokenfile }) => {
      const token = secret(undefined, tokenfile)
      return token ? [{ name, token }] : []
    }),
  }
}
