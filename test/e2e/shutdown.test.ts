/** SIGTERM in the middle of transfers: what is in flight ends well within the drain time, the rest is kept and resumed. */
import { connect } from 'node:net'
import { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Content, randomContent } from '../support/content.ts'
import type { Tree } from '../support/deep-merge.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { type Link, startLink } from '../support/link.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { openRaw } from './raw-http.ts'
import { expectSoundStore, isPublished, spoolsOf } from './store-files.ts'

const NAME = 'team/app'
const MIB = 1024 * 1024

let owned: AsyncDisposableStack
let primary: DockerRegistry
let link: Link
let there: RegistryApi
beforeEach(async () => {
  owned = new AsyncDisposableStack()
  primary = owned.use(await startDockerRegistry())
  link = owned.use(await startLink({ target: primary.url }))
  there = owned.use(createRegistryApi(primary.url))
})
afterEach(() => owned.disposeAsync())

async function start(http: Tree): Promise<{ site: GeoRegistry; api: RegistryApi }> {
  const config = { http, auth: { none: { push: true } } }
  const site = owned.use(await startGeoRegistry({ primary: link.url, config }))
  return { site, api: owned.use(createRegistryApi(site.url)) }
}

async function heldBlob(sizeBytes: number): Promise<Content> {
  const content = await randomContent(sizeBytes, { seed: 'shutdown' })
  expect((await there.pushBlob(NAME, content)).status).toBe(201)
  return content
}

const isRefused = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.once('connect', () => resolve(false)).once('error', () => resolve(true))
    socket.once('connect', () => socket.destroy())
  })

describe('SIGTERM', () => {
  it('lets a pull and a push that are under way end well, refuses new connections, and exits with 0', async () => {
    const { site, api } = await start({ draintimeout: '30s' })
    const pulled = await heldBlob(16 * MIB)
    const pushed = await randomContent(16 * MIB, { seed: 'pushed' })
    await using idle = await openRaw(site.port)
    link.shape({ bytesPerSecond: 12e6 })
    const from = link.counts()
    const transfers = Promise.all([api.getBlob(NAME, pulled.digest), patch(api, pushed)])
    await until(() => link.counts().down - from.down > MIB && link.counts().up - from.up > MIB, {
      what: 'both to be under way',
    })

    site.signal('SIGTERM')
    await until(() => isRefused(site.port), { what: 'new connections to be refused' })
    expect(link.counts().down - from.down).toBeLessThan(pulled.sizeBytes)
    const [pull, patched] = await transfers

    expect([pull.cut, pull.digest]).toEqual([undefined, pulled.digest])
    expect(patched.status).toBe(202)
    expect(await site.exited).toEqual({ code: 0, signal: null })
    expect(idle.isClosed).toBe(true)
    await expectSoundStore(site.root)
    expect(await isPublished(site.root, pulled.digest)).toBe(true)
  })

  it('cuts what the drain time was too short for, exits with 0, and goes on with the fill after a restart', async () => {
    const { site, api } = await start({ draintimeout: '500ms' })
    const content = await heldBlob(24 * MIB)
    link.shape({ bytesPerSecond: 8e6 })
    const from = link.counts().down
    const pull = api.getBlob(NAME, content.digest)
    await until(() => link.counts().down - from > 8 * MIB, { what: 'a third of it' })

    site.signal('SIGTERM')
    const cut = await pull

    expect(await site.exited).toEqual({ code: 0, signal: null })
    expect([cut.status, cut.cut]).toEqual([200, expect.any(Error)])
    expect(await isPublished(site.root, content.digest)).toBe(false)
    const name = content.digest.replace(':', '-')
    expect((await spoolsOf(site.root)).map((path) => path.split('/').at(-1))).toEqual([
      `${name}.data`,
      `${name}.json`,
    ])
    link.shape({})
    await site.start()
    expect((await api.getBlob(NAME, content.digest)).digest).toBe(content.digest)
    // What was in the link and in sockets when it ended is all that comes twice.
    expect(link.counts().down - from).toBeLessThan(content.sizeBytes + 4 * MIB)
    await until(() => isPublished(site.root, content.digest), { what: 'the blob to be published' })
    await expectSoundStore(site.root)
  })
})

async function patch(api: RegistryApi, content: Content) {
  const { headers } = await api.startUpload(NAME)
  return await api.patchUpload(NAME, headers['location'] ?? '', Readable.from(content.read()))
}
