import { describe, expect, it } from 'vitest'
import { tempFolder } from '../support/temp.ts'
import { configOf, faultsOf, SMALLEST } from './given.ts'

const TOKEN_SITE = `
version: 1
upstream: { url: "https://registry.primary.example.com" }
auth: { token: { realm: "https://gitlab.example.com/jwt/auth", service: s, issuer: i, jwks: /nowhere.json } }
storage: { filesystem: { rootdirectory: /var/lib/geo-registry } }
`

describe('replication', () => {
  it('is on without a word where the site can read by itself, with the defaults of the README', async () => {
    expect((await configOf(SMALLEST)).replication).toEqual({
      enabled: true,
      events: undefined,
      modes: [],
      concurrency: 4,
      connections: 6,
      parallelAboveBytes: 64 * 2 ** 20,
      requestsPerSecond: 10,
      bytesPerSecond: undefined,
      reconcileMs: 24 * 3_600_000,
      scrubMs: 90 * 86_400_000,
      deleteGraceMs: 168 * 3_600_000,
    })
  })

  it('takes its modes, rates and connections as they are written', async () => {
    await using folder = await tempFolder('secrets')
    const urlFile = await folder.write('postgres.url', 'postgres://geo@db/geo\n', 0o600)
    const config = await configOf(`${SMALLEST}
http: { events: { addr: "127.0.0.1:5012" } }
replication:
  notifications: { secret: a-word }
  modes: [{ pattern: "team/**", mode: ondemand }, { pattern: "*/secret", mode: deny }]
  requests: 2.5/s
  bandwidth: 200Mbit/s
tracking: { postgres: { urlfile: "${urlFile}" } }
redis: { url: "redis://cache:6379" }`)

    expect(config.replication).toMatchObject({
      events: { listen: { host: '127.0.0.1', port: 5012 } },
      modes: [
        { pattern: 'team/**', mode: 'ondemand' },
        { pattern: '*/secret', mode: 'deny' },
      ],
      requestsPerSecond: 2.5,
      bytesPerSecond: 25e6,
    })
    expect(config.replication.events?.secret.reveal()).toBe('a-word')
    expect([config.postgres?.url.reveal(), config.redis?.url.reveal()]).toEqual([
      'postgres://geo@db/geo',
      'redis://cache:6379',
    ])
  })

  it.each([
    [
      'http: { events: { addr: ":5012" } }',
      'replication.notifications.secretfile: missing; expected the path of a file, since http.events.addr is set',
    ],
    [
      'http: { events: { addr: "127.0.0.1:5010" } }\nreplication: { notifications: { secret: s } }',
      'http.events.addr: expected another address than http.addr, 127.0.0.1:5010',
    ],
    [
      'replication: { modes: [{ pattern: "Team/*", mode: deny }] }',
      'replication.modes[0].pattern: expected a pattern such as "team/**" with one of the modes replicate, ondemand, passthrough, deny, got "Team/*" (config.yml:7)',
    ],
    [
      'replication: { requests: 10 }',
      'replication.requests: expected a rate of requests such as 10/s, got the number 10 (config.yml:7)',
    ],
    [
      'replication: { requests: 0/s }',
      'replication.requests: expected a rate of requests such as 10/s, got "0/s" (config.yml:7)',
    ],
    [
      'redis: { url: a, urlfile: b }',
      'redis.urlfile: expected only one of redis.url and redis.urlfile (config.yml:7)',
    ],
  ])('is refused as %s', async (yaml, fault) => {
    expect(await faultsOf(`${SMALLEST}\n${yaml}`)).toContain(fault)
  })

  it('needs a credential of the site’s own where callers bring tokens and it is asked for', async () => {
    expect(await faultsOf(`${TOKEN_SITE}\nreplication: { enabled: true }`)).toContain(
      'upstream.auth.keyfile: missing; expected the path of a file, since replication.enabled is true and the site has to read by itself',
    )
  })
})
