import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { printConfig } from '../../src/config/print.ts'
import { ConfigError, loadConfig } from '../../src/config.ts'
import { signingKey } from '../support/keys.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'
import { configOf, faultsOf, loadText, SMALLEST } from './given.ts'

let folder: TempFolder
let tokyo: string
let lima: string
let certificate: string
let keyFile: string
beforeEach(async () => {
  folder = await tempFolder('relay-config')
  tokyo = await folder.write('tokyo.token', 'token-of-tokyo\n')
  lima = await folder.write('lima.token', 'token-of-lima\n')
  const key = await signingKey()
  certificate = await folder.write('tls.crt', key.certificatePem)
  keyFile = await folder.write('tls.key', key.privateKeyPem, 0o600)
})
afterEach(async () => await folder[Symbol.asyncDispose]())

/** The smallest configuration of a relay; `relay` and `more` are added to it. */
const relayWith = (relay = '', more = '') => `
version: 1
upstream: { url: "http://127.0.0.1:5000" }
http: { events: { addr: "127.0.0.1:5013" } }
replication: { notifications: { secret: a-word } }
storage: { filesystem: { rootdirectory: ${folder.path} } }
relay:
  sites: [{ name: tokyo, tokenfile: "${tokyo}" }]
${relay}
${more}`

describe("a relay's configuration", () => {
  it('needs no callers, and has the defaults of the README', async () => {
    const { relay, follow } = await configOf(relayWith())

    expect(relay).toMatchObject({
      listen: { host: '127.0.0.1', port: 5012 },
      tls: undefined,
      events: { listen: { host: '127.0.0.1', port: 5013 } },
      instances: [],
      canary: { repository: 'geo-registry/canary', kind: 'pull' },
      queueSize: 3000,
      retention: { ageMs: 168 * 3_600_000, bytes: 2 ** 30 },
      sites: [{ name: 'tokyo' }],
    })
    expect(relay?.events.secret.reveal()).toBe('a-word')
    expect(relay?.sites[0]?.token.reveal()).toBe('token-of-tokyo')
    expect(follow).toBeUndefined()
  })

  it('takes every setting as it is written, and watches the files of the tokens', async () => {
    const open = await configOf(
      relayWith(
        `  instances: ["http://registry-1:5000/", "https://registry.internal"]
  addr: ":443"
  tls: { certificate: ${certificate}, key: ${keyFile} }
  canary: { repository: ops/canary, kind: push }
  queuesize: 100
  retention: { age: 2d, size: 64MiB }`,
        'auth: { none: {} }',
      ).replace('sites: [', `sites: [{ name: lima, tokenfile: "${lima}" }, `),
    )
    expect(open.relay).toMatchObject({
      listen: { host: undefined, port: 443 },
      tls: { certificateFile: certificate, keyFile },
      instances: ['http://registry-1:5000', 'https://registry.internal'],
      canary: { repository: 'ops/canary', kind: 'push' },
      queueSize: 100,
      retention: { ageMs: 2 * 86_400_000, bytes: 64 * 2 ** 20 },
      sites: [{ name: 'lima' }, { name: 'tokyo' }],
    })
    expect(new Set(open.files)).toEqual(new Set([certificate, keyFile, tokyo, lima]))
  })

  it('reveals a new token of a site once its file was read again', async () => {
    const { relay, secrets } = await configOf(relayWith())
    await folder.write('tokyo.token', 'another\n')
    for (const secret of secrets) secret.refresh()

    expect(relay?.sites[0]?.token.reveal()).toBe('another')
  })

  it('is printed without what only sites have, and means the same when read again', async () => {
    const yaml = relayWith('  instances: ["http://127.0.0.1:5000"]', 'auth: { none: {} }')
    const { config, effective } = await loadText(yaml)
    const printed = printConfig(effective, config.upstream.proxies)

    expect(new Set(Object.keys(parse(printed)))).toEqual(
      new Set(['version', 'site', 'log', 'http', 'upstream', 'auth', 'storage', 'replication', 'relay']),
    )
    expect(printed).not.toMatch(/trust|idletimeout|reconcile|a-word/)
    expect(await configOf(printed.replace('"********"', 'a-word'))).toEqual(config)
  })

  it.each([
    [
      '  sites: []',
      (yaml: string) => yaml.replace(/ {2}sites: \[\{.*\n/, ''),
      'relay.sites: empty; expected at least one site (config.yml:8)',
    ],
    [
      '  queuesize: 0',
      (yaml: string) => yaml,
      'relay.queuesize: expected a whole number from 1, got the number 0 (config.yml:9)',
    ],
    [
      '  retention: { age: 1m }',
      (yaml: string) => yaml,
      'relay.retention.age: expected a duration such as 24h or 7d, at least 10m, got "1m" (config.yml:9)',
    ],
    [
      '  instances: ["http://a:1/", "http://a:1"]',
      (yaml: string) => `${yaml}\nauth: { none: }`,
      'relay.instances[1]: http://a:1 is named twice (config.yml:9)',
    ],
    [
      '  instances: []',
      (yaml: string) => yaml,
      'relay.instances: empty; expected every process of the registry, or no such setting (config.yml:9)',
    ],
    [
      '  canary: { repository: Canary }',
      (yaml: string) => yaml,
      'relay.canary.repository: expected a repository such as geo-registry/canary, got "Canary" (config.yml:9)',
    ],
    [
      '  addr: "127.0.0.1:5013"',
      (yaml: string) => yaml,
      'relay.addr: expected another address than http.events.addr, 127.0.0.1:5013',
    ],
    [
      '  instances: ["http://a:1"]',
      (yaml: string) => yaml,
      'upstream.auth: missing; expected a credential that may push to and pull from relay.canary.repository, since relay.instances is set; or "auth: { none: {} }" where the primary is open to all',
    ],
    [
      '  tls: { key: KEY }',
      (yaml: string) => yaml.replace('KEY', keyFile),
      'relay.tls.certificate: missing; expected the path of a file, since relay.tls.key is set',
    ],
    [
      '  url: https://relay.example.com',
      (yaml: string) => yaml,
      'relay.url: is a setting of a site, and relay.sites makes this the configuration of a relay: take it out, or write a file for each (config.yml:9)',
    ],
    [
      '',
      (yaml: string) => yaml.replace('http: {', 'http: { addr: "127.0.0.1:1",'),
      'http.addr: is a setting of a site, and relay.sites makes this the configuration of a relay: take it out, or write a file for each (config.yml:4)',
    ],
    [
      '',
      (yaml: string) => yaml.replace(/^http:.*$/m, ''),
      'http.events.addr: missing; expected an address such as 127.0.0.1:5010, "[::1]:5010" or :5010, where the primary\'s registry sends its notifications to a relay',
    ],
    [
      '',
      (yaml: string) => yaml.replace(/^replication:.*$/m, ''),
      'replication.notifications.secretfile: missing; expected the path of a file, which the notifications come with',
    ],
    [
      '',
      (yaml: string) => yaml.replace(/ {2}sites: .*\n/, '  queuesize: 1\n'),
      'relay.sites: missing; expected a list such as [{ name: tokyo, tokenfile: /etc/geo-registry/tokyo.token }], since nobody else may read the log of a relay',
    ],
  ])('is refused with %s', async (relay, change, fault) => {
    expect(await faultsOf(change(relayWith(relay)))).toEqual([fault])
  })

  it.each([
    [{ name: 'tokyo', file: 'lima.token' }, 'relay.sites[1].name: tokyo is named twice (config.yml:8)'],
    [
      { name: 'lima', file: 'same.token' },
      'relay.sites[1].tokenfile: FOLDER/same.token holds the token of tokyo; expected one of its own (config.yml:8)',
    ],
    [
      { name: 'lima', file: 'spaced.token' },
      'relay.sites[1].tokenfile: FOLDER/spaced.token holds what no header can carry; expected ASCII without spaces (config.yml:8)',
    ],
    [
      { name: 'lima', file: 'none.token' },
      'relay.sites[1].tokenfile: FOLDER/none.token does not exist (config.yml:8)',
    ],
  ])('knows its sites apart, and refuses %j as the second', async ({ name, file }, fault) => {
    await folder.write('same.token', 'token-of-tokyo')
    await folder.write('spaced.token', 'a token')
    const second = `}, { name: ${name}, tokenfile: "${folder.path}/${file}" }]`

    expect(await faultsOf(relayWith().replace('}]', second))).toEqual([fault.replace('FOLDER', folder.path)])
  })

  it('never shows a token, nor takes a member that is no site', async () => {
    const faults = await faultsOf(relayWith().replace('tokenfile:', 'token: hunter2, tokenfile:'))

    expect(faults).toHaveLength(1)
    expect(faults[0]).toContain('relay.sites[0]: expected a name and a tokenfile')
    expect(faults[0]).not.toContain('hunter2')
  })
})

describe('a site that follows a relay', () => {
  it('has its address, its token and the age a watermark may have', async () => {
    const config = await configOf(`${SMALLEST}
relay: { url: "https://relay.example.com:5012/", tokenfile: "${tokyo}" }
tags: { freshness: watermark, maxstaleness: 5s }`)

    expect(config.follow).toMatchObject({ url: 'https://relay.example.com:5012', caFile: undefined })
    expect(config.follow?.token.reveal()).toBe('token-of-tokyo')
    expect(config.tags).toEqual({ trustMs: 0, freshness: 'watermark', maxStalenessMs: 5000 })
    expect(config.relay).toBeUndefined()
  })

  it('confirms nothing by the watermark unless that is asked for', async () => {
    const yaml = `${SMALLEST}\nrelay: { url: "http://relay:1", token: t }\ntags: { maxstaleness: 5s }`

    expect((await configOf(yaml)).tags).toMatchObject({ freshness: 'ask', maxStalenessMs: undefined })
  })

  it.each([
    [
      'tags: { freshness: watermark }',
      [
        'tags.freshness: watermark can be had from a relay only; expected relay.url (geo-registry relay, beside the primary), or ask (config.yml:7)',
      ],
    ],
    [
      'tags: { freshness: always }',
      ['tags.freshness: expected ask or watermark, got "always" (config.yml:7)'],
    ],
    [
      'relay: { url: "http://relay:1" }',
      [
        'relay.tokenfile: missing; expected the path of a file, since relay.url is set; the relay has the same under relay.sites',
      ],
    ],
    ['relay: { token: t }', ['relay.token: expected relay.url beside it (config.yml:7)']],
    [
      'relay: { url: "http://relay:1", token: t, tokenfile: /dev/null }',
      [
        'relay.tokenfile: expected only one of relay.token and relay.tokenfile (config.yml:7)',
        'relay.tokenfile: /dev/null is empty; expected a secret (config.yml:7)',
      ],
    ],
  ])('is refused as %s', async (yaml, faults) => {
    expect(await faultsOf(`${SMALLEST}\n${yaml}`)).toEqual(faults)
  })
})

describe('the command', () => {
  it("refuses a relay's configuration for a site, and says which command it is for", async () => {
    const file = await folder.write('relay.yml', relayWith())

    expect(() => loadConfig({ file, environment: {}, side: 'site' })).toThrow(ConfigError)
    expect(() => loadConfig({ file, environment: {}, side: 'site' })).toThrow(
      `relay.sites: makes this the configuration of a relay: run geo-registry relay with it, or give this site a file of its own (${file}:8)`,
    )
  })

  it("refuses a site's configuration for a relay, and says only what is missing", async () => {
    const file = await folder.write('site.yml', SMALLEST)

    expect(() => loadConfig({ file, environment: {}, side: 'relay' })).toThrow(
      /^relay\.sites: missing; without it this is the configuration of a site \(geo-registry serve\)[^\n]*$/,
    )
  })
})
