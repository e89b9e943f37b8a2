/** Crowds of connections that ask for nothing: others are answered meanwhile, and what is held here stays readable. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type GeoRegistry, type GeoRegistryOptions, startGeoRegistry } from '../support/geo-registry.ts'
import { buildImage, type Image } from '../support/images.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { type Program, startProgram } from '../support/process.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { connectionsOn, openStubborn } from './raw-client.ts'

const MIB = 1024 * 1024
const COUNT = 10_000
/** Measured on Node 26: 10 000 silent connections take 81 MiB of the process, as many kept for a next request 129 MiB. */
const MOST_MORE_BYTES = 250 * MIB
const HOLDER = join(import.meta.dirname, 'socket-holder.ts')

let primary: LyingPrimary
let image: Image

beforeAll(async () => {
  primary = await startLyingPrimary()
  image = await buildImage({ seed: 'crowds', layers: [300_000], gzip: false })
  await primary.hold('team/app', image, 'v1')
})
afterAll(() => primary[Symbol.asyncDispose]())

async function start(idletimeout: string, options: Partial<GeoRegistryOptions> = {}): Promise<GeoRegistry> {
  return await startGeoRegistry({ primary: primary.url, config: { http: { idletimeout } }, ...options })
}

/** Resolves when all `count` have been tried. */
async function hold(site: GeoRegistry, count: number, first = ''): Promise<Program> {
  const holder = await startProgram(process.execPath, [HOLDER, String(site.port), String(count), first])
  await until(() => holder.logs().includes(`held ${count}`), { what: 'the crowd', deadlineMs: 40_000 })
  return holder
}

async function openFilesLimit(site: GeoRegistry): Promise<number> {
  const [, files] = /^Max open files\s+(\d+)/m.exec(await readFile(`/proc/${site.pid}/limits`, 'utf8')) ?? []
  return Number(files)
}

const path = () => `/v2/team/app/blobs/${image.blobs[1]?.digest}`

describe.concurrent('10 000 connections that send nothing', () => {
  it('hold up nobody, take little memory, and are ended after http.idletimeout', async () => {
    await using site = await start('10s')
    await using api = createRegistryApi(site.url)
    const before = (await site.memory()).residentBytes
    const expected = Math.min(COUNT, Math.floor((await openFilesLimit(site)) * 0.75) - 10)
    await using _ = await hold(site, COUNT)

    await until(async () => (await connectionsOn(site.port)) >= expected, { what: 'all to be accepted' })
    const startedAtMs = performance.now()
    expect((await api.drain(path())).digest).toBe(image.blobs[1]?.digest)
    expect((await api.getManifest('team/app', 'v1')).status).toBe(200)
    expect(performance.now() - startedAtMs).toBeLessThan(5000)
    expect((await site.memory()).residentBytes - before).toBeLessThan(MOST_MORE_BYTES)
    await until(async () => (await connectionsOn(site.port)) <= 2, {
      what: 'all of them to be ended',
      deadlineMs: 40_000,
      everyMs: 200,
    })
    expect((await api.request('GET', '/v2/')).status).toBe(200)
  })
})

describe.concurrent('more connections than the process may have files', () => {
  const launcher = ['prlimit', '--nofile=400:400']

  it('leave room for files, so that who is in the middle is answered and metrics can be read', async () => {
    await using site = await start('9s', { launcher })
    await using api = createRegistryApi(site.url)
    expect((await api.drain(path())).digest).toBe(image.blobs[1]?.digest)
    using asking = await openStubborn(site.port)
    asking.socket.write(`GET ${path()} HTTP/1.1\r\nHost: x\r\n`)
    await using _ = await hold(site, 600)

    expect(await connectionsOn(site.port)).toBeLessThanOrEqual(300)
    asking.socket.write('\r\n')
    await until(() => asking.received().length > 300_000, { what: 'the whole blob' })
    expect(asking.received()).toMatch(/^HTTP\/1\.1 200 /)
    expect(await site.metrics()).toContain('geo_registry_reads_total')
    expect(site.lines.filter(({ msg }) => String(msg).startsWith('connections refused'))).toHaveLength(1)
    await using newcomer = createRegistryApi(site.url)
    await until(async () => (await newcomer.request('GET', '/v2/')).status === 200, {
      what: 'a newcomer to be let in when the silent ones are gone',
      deadlineMs: 25_000,
    })
  })

  it('make room for who asks, when they only wait for a next request', async () => {
    await using site = await start('5m', { launcher })
    await using _ = await hold(site, 600, 'GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n')

    await using newcomer = createRegistryApi(site.url)
    await until(async () => (await newcomer.drain(path())).digest === image.blobs[1]?.digest, {
      what: 'a newcomer to be answered',
    })
  })
})
