/**
 * The endpoint that the primary's registry needs for this configuration, as a piece of the primary's own: Distribution's
 * YAML, Omnibus' `gitlab.rb` or the values of GitLab's chart. Facts: a registry drops what it cannot deliver, one event
 * after the other, from memory, and each kind of it takes other settings for how long it tries.
 */
import { stringify } from 'yaml'
import { formatAddress, isWildcard, type ListenAddress, parseHttpUrl } from './addresses.ts'
import type { Secret } from './secret.ts'
import type { Config } from './slices.ts'

export const NOTIFICATION_FORMS = ['distribution', 'omnibus', 'chart'] as const
export type NotificationForm = (typeof NOTIFICATION_FORMS)[number]

export interface NotificationOptions {
  readonly form: NotificationForm
  /** Where the registry reaches the events listener; default the address it listens on. */
  readonly url?: string | undefined
  /** Whether the secret is printed; default false: where it is to be had. */
  readonly showSecret?: boolean | undefined
}

/** Nothing can be rendered of this configuration; the message says what is missing. */
export class NotificationsFault extends Error {
  override readonly name = 'NotificationsFault'
}

/** An answer takes milliseconds; a sender that waits for less gives up on a new TLS connection. */
const TIMEOUT = '2s'
/**
 * GitLab's registry waits 1 s, then 1.5 times as long each time, give or take half: ten retries take 56 s at the least,
 * 113 s in the mean. A relay can be restarted meanwhile, and nothing is given up before its event would be missed.
 */
const MAX_RETRIES = 10
const BACKOFF = '1s'
/** Distribution never gives up: this many failures in a row, and it waits for the backoff. GitLab's makes 10 retries of it. */
const THRESHOLD = 5
const QUEUE_SIZE = 3000
const QUEUE_NOTE =
  "queuesizelimit is known to GitLab's registry from 4.26 on; relay.queuesize must say the same."
/** Blobs: no tag names them, and a push has many. */
const IGNORED_MEDIA_TYPES = ['application/octet-stream']
const CHART_SECRET = 'geo-registry-notifications'

/** Throws `NotificationsFault`. */
export function renderNotifications(config: Config, options: NotificationOptions): string {
  const events = config.relay?.events ?? config.replication.events
  if (!events) {
    throw new NotificationsFault(
      'http.events.addr: missing; expected the address where notifications are taken, beside replication.notifications.secretfile',
    )
  }
  const facts: Facts = {
    name: config.relay ? 'geo_registry_relay' : `geo_registry_${config.site.name.replace(/\W+/g, '_')}`,
    url: urlOf(events.listen, options.url),
    secret: options.showSecret ? events.secret.reveal() : placeholder(events.secret),
    secretFile: options.showSecret ? undefined : events.secret.file,
    queueSize: config.relay?.queueSize ?? QUEUE_SIZE,
    ignore: {
      mediatypes: IGNORED_MEDIA_TYPES,
      ...(pullsMatter(config) ? {} : { actions: ['pull'] }),
    },
    why: pullsMatter(config)
      ? 'Pulls are not ignored: the canaries of the relay come back as pulls (relay.canary.kind: pull).'
      : 'Pulls are ignored: nothing here is learned from them.',
  }
  return { distribution, omnibus, chart }[options.form](facts)
}

interface Facts {
  readonly name: string
  readonly url: string
  readonly secret: string
  /** Where it can be read on this machine, unless it is shown. */
  readonly secretFile: string | undefined
  readonly queueSize: number
  readonly ignore: { readonly mediatypes: readonly string[]; readonly actions?: readonly string[] }
  readonly why: string
}

/** Ignored pulls would look like canaries that are lost, so they are kept as soon as a relay may send any. */
function pullsMatter({ relay }: Config): boolean {
  return relay?.canary.kind === 'pull'
}

function distribution({ name, url, secret, queueSize, ignore, why }: Facts): string {
  const endpoint = {
    name,
    url,
    headers: { Authorization: [secret] },
    timeout: TIMEOUT,
    threshold: THRESHOLD,
    backoff: BACKOFF,
    queuesizelimit: queueSize,
    ignore,
  }
  return `# Of the configuration of every process of the primary's registry (Distribution, or GitLab's built from source).
# It is one of the list: keep the other endpoints, such as geo_event, as they are.
# ${why}
# ${QUEUE_NOTE} Distribution's queue has no limit, and it passes over the line.
${stringify({ notifications: { endpoints: [endpoint] } })}`
}

function omnibus({ name, url, secret, queueSize, ignore, why }: Facts): string {
  const lines = [
    ['name', ruby(name)],
    ['url', ruby(url)],
    ['timeout', ruby(TIMEOUT)],
    ['maxretries', String(MAX_RETRIES)],
    ['backoff', ruby(BACKOFF)],
    ['queuesizelimit', String(queueSize)],
    ['ignore', rubyHash(ignore)],
    ['headers', rubyHash({ Authorization: [secret] })],
  ]
  return `# Of /etc/gitlab/gitlab.rb, on every node that runs the registry; then gitlab-ctl reconfigure.
# The list replaces every endpoint that was there: keep geo_event in it, as it stands in the file now.
# ${why}
# ${QUEUE_NOTE}
registry['notifications'] = [
  # { 'name' => 'geo_event', ... },
  {
${lines.map(([key, value]) => `    '${key}' => ${value}`).join(',\n')}
  }
]
`
}

function chart({ name, url, secret, secretFile, queueSize, ignore, why }: Facts): string {
  const endpoint = {
    name,
    url,
    timeout: TIMEOUT,
    maxretries: MAX_RETRIES,
    backoff: BACKOFF,
    queuesizelimit: queueSize,
    ignore,
    headers: { Authorization: { secret: CHART_SECRET, key: 'value' } },
  }
  const value = secretFile === undefined ? shell(secret) : `"$(cat ${shell(secretFile)})"`
  return `# Of the values of GitLab's chart. The secret has to be there first, in the namespace of the release:
#   kubectl create secret generic ${CHART_SECRET} --from-literal=value=${value}
# The chart adds geo_event by itself; keep the other endpoints of the list as they are.
# ${why}
# ${QUEUE_NOTE}
${stringify({ global: { registry: { notifications: { endpoints: [endpoint] } } } })}`
}

function urlOf(listen: ListenAddress, given: string | undefined): string {
  const needed = "expected --url, where the primary's registry reaches it"
  if (given !== undefined) {
    const url = URL.parse(parseHttpUrl(given) ?? '')
    if (!url) throw new NotificationsFault(`--url: expected a URL such as http://10.0.0.7:5013, got ${given}`)
    if (url.pathname === '/') url.pathname = '/notifications'
    return url.href
  }
  if (listen.host === undefined || isWildcard(listen)) {
    throw new NotificationsFault(`http.events.addr ${formatAddress(listen)} is every address; ${needed}`)
  }
  if (listen.port === 0) {
    throw new NotificationsFault(`http.events.addr: port 0 is another one at each start; ${needed}`)
  }
  return `http://${formatAddress(listen)}/notifications`
}

function placeholder({ file }: Secret): string {
  return file === undefined ? '<the value of replication.notifications.secret>' : `<the content of ${file}>`
}

function ruby(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`
}

function rubyHash(members: Readonly<Record<string, readonly string[]>>): string {
  const pairs = Object.entries(members).map(
    ([key, values]) => `${ruby(key)} => [${values.map(ruby).join(', ')}]`,
  )
  return `{ ${pairs.join(', ')} }`
}

function shell(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}
