/**
 * Targets and hosts that try to lead elsewhere: out of the store's folder, to another listener, to another machine. Each
 * listener is asked directly, and the site by way of NGINX, which reads paths in a way of its own.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { rawRequest, sendRaw } from '../e2e/raw-http.ts'
import { treeOf } from '../e2e/store-files.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { type Nginx, startNginx } from '../support/nginx.ts'
import { freePort } from '../support/port.ts'

const ADMIN_TOKEN = 'the token of the admin listener'
const DIGEST = `sha256:${'a'.repeat(64)}`

let primary: LyingPrimary
let site: GeoRegistry
let nginx: Nginx
let ports: Readonly<Record<'public' | 'nginx' | 'events' | 'admin', number>>

beforeAll(async () => {
  primary = await startLyingPrimary()
  const eventsPort = await freePort()
  site = await startGeoRegistry({
    primary: primary.url,
    config: {
      http: {
        events: { addr: `127.0.0.1:${eventsPort}` },
        admin: { token: ADMIN_TOKEN },
        trustedproxies: ['127.0.0.1'],
      },
      auth: { none: { push: true } },
      replication: {
        enabled: true,
        notifications: { secret: 'a secret of the events' },
        modes: [{ pattern: '**', mode: 'ondemand' }],
      },
    },
  })
  nginx = await startNginx({ servers: [{ proxyTo: site.url }] })
  const adminPort = Number(new URL(site.adminUrl).port)
  ports = { public: site.port, nginx: nginx.port, events: eventsPort, admin: adminPort }
})
afterAll(async () => {
  for (const owned of [nginx, site, primary]) await owned[Symbol.asyncDispose]()
})

/** What is under the root but for what the site keeps writing by itself. */
const stored = async () => (await treeOf(site.root)).filter((line) => !line.startsWith('geo-registry/'))
let before: string[]
beforeEach(async () => {
  before = await stored()
})

const UP = [
  '..',
  '%2e%2e',
  '%2E.',
  '.%2e',
  '%252e%252e',
  '..;',
  '..%00',
  '..%5c',
  '..\\',
  '%c0%ae%c0%ae',
  '%uff0e',
]
const SLASHES = ['/', '//', '%2f', '%252f', '\\', '%5c', ';/', '/;/', '/./']

/** Every way up out of every place that a path of a request has in the store. */
const CLIMBS = UP.flatMap((up) =>
  SLASHES.flatMap((slash) => {
    const climb = Array(6).fill(up).join(slash)
    return [
      `/v2/${climb}${slash}etc/passwd/manifests/v1`,
      `/v2/team${slash}${climb}${slash}geo-registry/manifests/v1`,
      `/v2/team/app/manifests/${climb}${slash}etc${slash}passwd`,
      `/v2/team/app/blobs/${climb}${slash}etc${slash}passwd`,
      `/v2/team/app/blobs/sha256:${climb}${slash}etc${slash}passwd`,
      `/v2/team/app/blobs/uploads/${climb}`,
      `/${climb}${slash}etc/passwd`,
    ]
  }),
)

/** Names of what listens elsewhere, as a path that a listener or what stands before it might make of them. */
const ELSEWHERE = [
  ...['/metrics', '/status', '/gc', '/-/liveness', '/-/readiness', '/repositories', '/notifications', '/'],
  ...[
    '//metrics',
    '/./metrics',
    '/v2/../metrics',
    '/v2/%2e%2e/metrics',
    '/v2/..;/metrics',
    '/v2/..%2fmetrics',
  ],
  ...[
    '/v2/../-/readiness',
    '/v2/\\..\\metrics',
    '/metrics?/v2/',
    '/metrics#/v2/',
    '/v2/#/../metrics',
    '/METRICS',
  ],
]

/** One at a time on connections of their own, a few at once. */
async function each<T>(values: readonly T[], ask: (value: T) => Promise<void>): Promise<void> {
  const left = values.values()
  const asker = async () => {
    for (const value of left) await ask(value)
  }
  await Promise.all(Array.from({ length: 16 }, asker))
}

describe.each(['public', 'nginx'] as const)('by way of the %s port, a path', (way) => {
  it('that climbs leads to no file, whatever the climb is written as', async () => {
    await each(CLIMBS, async (target) => {
      const { statuses, text } = await sendRaw(ports[way], rawRequest('GET', target))
      // An upload session's name is the primary's word: it is asked, by a path that is no longer one upwards.
      expect(statuses[0], target).toBeOneOf([200, 204, 400, 404])
      expect(text, target).not.toMatch(/root:|nobody:|SQLite format/)
    })
    for (const { url } of primary.requests) expect(new URL(url, primary.url).pathname).toMatch(/^\/v2\//)
    expect(await stored()).toEqual(before)
  })

  it('that climbs writes no file', async () => {
    await each(CLIMBS, async (target) => {
      for (const method of ['PUT', 'DELETE']) {
        const answer = await sendRaw(ports[way], rawRequest(method, target, { 'content-length': '0' }))
        expect(answer.statuses[0], `${method} ${target}`).toBeOneOf([202, 204, 400, 404, 405])
      }
    })
    expect(await stored()).toEqual(before)
  })

  it('of another listener is none of this one', async () => {
    await each(ELSEWHERE, async (target) => {
      const { statuses, text } = await sendRaw(ports[way], rawRequest('GET', target))
      expect(statuses[0], target).toBeOneOf([400, 404])
      expect(text, target).not.toMatch(/geo_registry_|"status": ?"ok"/)
    })
  })

  it('with a host and a scheme of its own is not followed to there', async () => {
    const seen = primary.requests.length
    const hosts = [`127.0.0.1:${ports.admin}`, `127.0.0.1:${primary.port}`, 'user@127.0.0.1', '[::1]']
    const targets = hosts.flatMap((host) => [
      `http://${host}/metrics`,
      `https://${host}/v2/a/manifests/x`,
      `//${host}/v2/`,
    ])
    await each(targets, async (target) => {
      const { statuses, text } = await sendRaw(ports[way], rawRequest('GET', target))
      expect(statuses[0], target).toBeOneOf([400, 404])
      expect(text, target).not.toContain('geo_registry_')
    })
    await each(hosts, async (host) => {
      const { statuses } = await sendRaw(ports[way], rawRequest('CONNECT', host))
      expect(statuses, host).not.toContain(200)
    })
    // NGINX takes a host in the target for its own name, and so asks the site, which asks its primary and no other.
    for (const { url, headers } of primary.requests.slice(seen)) {
      expect([headers.host, url.slice(0, 4)]).toEqual([new URL(primary.url).host, '/v2/'])
    }
  })

  it('is judged the same whatever Host it comes with', async () => {
    const hosts = [
      `127.0.0.1:${ports.admin}`,
      'localhost',
      'metrics',
      'a@b',
      '[::1]',
      '127.0.0.1:99999',
      '..',
      '%2f',
    ]
    await each(hosts, async (host) => {
      const { statuses, text } = await sendRaw(ports[way], rawRequest('GET', '/metrics', { host }))
      expect(statuses[0], host).toBeOneOf([400, 404])
      expect(text, host).not.toMatch(/geo_registry_/)
    })
  })
})

describe('the events listener', () => {
  it('has no other path, nor another host', async () => {
    await each(
      [...ELSEWHERE, ...CLIMBS.slice(0, 100), 'http://127.0.0.1/metrics', `/v2/a/blobs/${DIGEST}`],
      async (target) => {
        const { statuses, text } = await sendRaw(ports.events, rawRequest('GET', target))
        expect(statuses[0], target).toBeOneOf([400, 404, 405])
        expect(text, target).not.toMatch(/geo_registry_|root:/)
      },
    )
  })
})

describe('the admin listener', () => {
  const tell = { authorization: `Bearer ${ADMIN_TOKEN}` }

  it('tells nobody without its token, whatever the target, the Host or who is said to have sent it', async () => {
    const tricks: readonly Readonly<Record<string, string>>[] = [
      { host: 'localhost' },
      { host: '127.0.0.1' },
      { host: '[::1]' },
      { 'x-forwarded-for': '127.0.0.1', 'x-real-ip': '127.0.0.1' },
      { 'x-original-url': '/-/liveness', 'x-rewrite-url': '/-/liveness' },
      { authorization: 'Bearer' },
      { authorization: `Basic ${btoa(`:${ADMIN_TOKEN}`)}` },
      { authorization: `Bearer ${ADMIN_TOKEN}x` },
    ]
    const targets = [
      ...[
        '/metrics',
        '//metrics',
        '/-/liveness/../../metrics',
        '/-/liveness;/metrics',
        '/%6detrics',
        '/metrics/',
      ],
      ...[
        'http://localhost/metrics',
        'http://127.0.0.1/-/liveness/../../metrics',
        '/status',
        '/repositories',
      ],
    ]
    await each(
      tricks.flatMap((headers) => targets.map((target) => ({ headers, target }))),
      async ({ headers, target }) => {
        const { statuses, text } = await sendRaw(ports.admin, rawRequest('GET', target, headers))
        expect(statuses[0], target).toBeOneOf([400, 401, 404])
        expect(text, target).not.toMatch(/geo_registry_|"tracked|"repositories/)
      },
    )
  })

  it('is no way to the registry, nor to a file, for who has its token', async () => {
    await each([...CLIMBS, '/v2/', `/v2/team/app/blobs/${DIGEST}`], async (target) => {
      const { statuses, text } = await sendRaw(ports.admin, rawRequest('GET', target, tell))
      expect(statuses[0], target).toBeOneOf([400, 404])
      expect(text, target).not.toMatch(/root:|SQLite format/)
    })
    expect(await stored()).toEqual(before)
  })

  it('without a token of its own, listens to no page that has led a name of its own to this machine', async () => {
    await using open = await startGeoRegistry({ primary: primary.url })
    const port = Number(new URL(open.adminUrl).port)
    const names = [
      'evil.example',
      '127.0.0.1.evil.example',
      'localhost.evil.example',
      'a.localhost',
      'xn--localhost-',
    ]
    await each(
      [...names, 'evil.example:80', 'localhost@evil.example', 'evil.example/localhost', ''],
      async (host) => {
        const { statuses, text } = await sendRaw(port, rawRequest('GET', '/metrics', { host }))
        expect(statuses[0], host).toBeOneOf([400, 403])
        expect(text, host).not.toContain('geo_registry_')
      },
    )
    for (const host of ['localhost', `localhost:${port}`, '127.0.0.1', '[::1]']) {
      expect((await sendRaw(port, rawRequest('GET', '/metrics', { host }))).statuses, host).toEqual([200])
    }
  })
})
