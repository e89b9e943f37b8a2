/** Laws 1, 6 and 7 through a whole site: bytes stream, are fetched once, and nobody waits for anybody else. */
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createDigester } from '../../src/oci/digest.ts'
import { type Content, randomContent } from '../support/content.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { signingKey } from '../support/keys.ts'
import { type Link, startLink } from '../support/link.ts'
import type { RegistryApi } from '../support/registry-api.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { type OneSite, REALM, sourceOf, startOneSite } from './one-site.ts'
import { expectSoundStore, isPublished } from './store-files.ts'

const NAME = 'team/app'
const MIB = 1024 * 1024
/** Longer than one request of a fill (32 MiB), and than all buffers between two sockets. */
const BLOB_BYTES = 48 * MIB
/** What heads cost: about 600 bytes for each request of the fill, and the pings of a warm connection. */
const HEADS_BYTES = 16 * 1024
const path = (content: Content) => `/v2/${NAME}/blobs/${content.digest}`

let primary: DockerRegistry
let link: Link
let one: OneSite
let seed = 0

beforeAll(async () => {
  const key = await signingKey()
  const auth = { realm: REALM, service: 'container_registry', issuer: 'gitlab-issuer', key }
  primary = await startDockerRegistry({ auth })
  link = await startLink({ target: primary.url })
  await using folder = await tempFolder('site-key')
  const keyfile = await folder.write('site.key', key.privateKeyPem, 0o600)
  one = await startOneSite(link.url, {
    upstream: { auth: { keyfile, issuer: 'gitlab-issuer', service: 'container_registry' } },
  })
})
afterAll(async () => {
  await one[Symbol.asyncDispose]()
  await link[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})
beforeEach(() => link.shape({}))

/** A blob that is at the primary and not here. */
async function coldBlob(sizeBytes = BLOB_BYTES): Promise<Content> {
  seed += 1
  const content = await randomContent(sizeBytes, { seed: `streaming ${seed}` })
  const there = await one.client({ [NAME]: ['pull', 'push'] }, primary.url)
  expect((await there.pushBlob(NAME, content)).status).toBe(201)
  return content
}

const reader = () => one.client({ [NAME]: ['pull'] })

/** As containerd 2 reads a large layer: `bytes=0-`, of which it takes the first chunk, and the others by ranges. */
async function pullByChunks(client: RegistryApi, content: Content, chunkBytes: number): Promise<string> {
  const opened = await client.open(path(content), { headers: { range: 'bytes=0-' } })
  expect([opened.status, opened.headers['content-range']]).toEqual([
    206,
    `bytes 0-${content.sizeBytes - 1}/${content.sizeBytes}`,
  ])
  const first = await take(opened.body, chunkBytes)
  opened.body.destroy()
  const digester = createDigester('sha256')
  digester.update(first)
  const starts: number[] = []
  for (let start = chunkBytes; start < content.sizeBytes; start += chunkBytes) starts.push(start)
  const chunks = starts.map(async (start) => {
    const range = `${start}-${Math.min(start + chunkBytes, content.sizeBytes) - 1}`
    const answer = await client.request('GET', path(content), { headers: { range: `bytes=${range}` } })
    expect([answer.status, answer.headers['content-range']]).toEqual([
      206,
      `bytes ${range}/${content.sizeBytes}`,
    ])
    return answer.body
  })
  for (const chunk of chunks) digester.update(await chunk)
  return digester.digest()
}

/** The next `bytes` of a body, which stays open. */
async function take(body: Readable, bytes: number): Promise<Buffer> {
  const taken: Buffer[] = []
  for (let left = bytes; left > 0; ) {
    const chunk = (body.read(Math.min(left, body.readableLength || left)) ?? undefined) as Buffer | undefined
    if (chunk) {
      taken.push(chunk)
      left -= chunk.length
    } else await once(body, 'readable')
  }
  return Buffer.concat(taken)
}

async function digestOfRest(body: Readable, before: Buffer): Promise<string> {
  const digester = createDigester('sha256')
  digester.update(before)
  for await (const chunk of body as AsyncIterable<Buffer>) digester.update(chunk)
  return digester.digest()
}

describe('a cold blob that many clients want at once', () => {
  it('crosses the line once, and everybody gets every byte, whole or by containerd’s ranges', async () => {
    const content = await coldBlob()
    const clients = await Promise.all(Array.from({ length: 20 }, reader))
    link.shape({ bytesPerSecond: 60e6 })
    const before = link.counts().down

    const digests = await Promise.all(
      clients.map(async (client, index) =>
        index % 2 === 0
          ? (await client.getBlob(NAME, content.digest)).digest
          : await pullByChunks(client, content, 6 * MIB),
      ),
    )

    expect(new Set(digests)).toEqual(new Set([content.digest]))
    const crossed = link.counts().down - before
    expect(crossed).toBeGreaterThan(BLOB_BYTES)
    expect(crossed).toBeLessThan(BLOB_BYTES + HEADS_BYTES)
    await until(() => isPublished(one.site.root, content.digest), { what: 'the blob to be published' })
    await expectSoundStore(one.site.root)
  })

  it('is had by the others while one takes nothing, who then still gets every byte', async () => {
    const content = await coldBlob()
    const stalled = await (await reader()).open(path(content))
    const before = await take(stalled.body, 1000)

    const others = await Promise.all(
      Array.from({ length: 3 }, async () => await (await reader()).getBlob(NAME, content.digest)),
    )

    expect(others.map(({ digest }) => digest)).toEqual(Array(3).fill(content.digest))
    expect(stalled.body.readableEnded).toBe(false)
    expect(await digestOfRest(stalled.body, before)).toBe(content.digest)
  })

  it('goes on for the others when the one who began leaves, and is fetched no second time', async () => {
    const content = await coldBlob()
    link.shape({ bytesPerSecond: 60e6 })
    const from = link.counts().down
    const first = await (await reader()).open(path(content))
    await take(first.body, 1000)
    const other = await (await reader()).open(path(content))
    const before = await take(other.body, 1000)
    first.body.destroy()

    expect(await digestOfRest(other.body, before)).toBe(content.digest)
    expect(link.counts().down - from).toBeLessThan(BLOB_BYTES + HEADS_BYTES)
  })

  it('is fetched to its end, and once, although its only client has left', async () => {
    const content = await coldBlob()
    link.shape({ bytesPerSecond: 60e6 })
    const from = link.counts().down
    const gone = await (await reader()).open(path(content))
    await take(gone.body, 1000)
    gone.body.destroy()

    await until(() => isPublished(one.site.root, content.digest), { what: 'the blob to be published' })
    const again = await (await reader()).getBlob(NAME, content.digest)

    expect([again.digest, sourceOf(again)]).toEqual([content.digest, 'local'])
    expect(link.counts().down - from).toBeLessThan(BLOB_BYTES + HEADS_BYTES)
  })

  it('leaves no file open, and the site alive, whenever its clients leave', async () => {
    const client = await reader()
    const leaveAfter = async (content: Content, bytes: number) => {
      const { body } = await client.open(path(content))
      let had = 0
      for await (const chunk of body as AsyncIterable<Buffer>) {
        had += chunk.length
        if (had > bytes) break // Destroys the body, and its connection with it.
      }
    }

    for (let round = 0; round < 30; round++) {
      link.shape({})
      const content = await coldBlob(8 * MIB)
      link.shape({ bytesPerSecond: 60e6 })
      await Promise.all(Array.from({ length: 12 }, (_, index) => leaveAfter(content, index * 500_000)))
    }

    await until(async () => !(await one.site.openFiles()).some((file) => file.includes('/spools/')), {
      what: 'the spools to be closed',
    })
  })

  it('goes on by the next client, from where it stopped, at a site without a credential of its own', async () => {
    const content = await coldBlob()
    await using poor = await startOneSite(link.url)
    link.shape({ bytesPerSecond: 30e6 })
    const from = link.counts().down
    const gone = await (await poor.client({ [NAME]: ['pull'] })).open(path(content))
    await take(gone.body, 8 * MIB)
    gone.body.destroy()
    await until(async () => /^geo_registry_fills_in_flight 0$/m.test(await poor.site.metrics()), {
      what: 'the fill to be suspended',
    })
    expect(await isPublished(poor.site.root, content.digest)).toBe(false)

    const next = await (await poor.client({ [NAME]: ['pull'] })).getBlob(NAME, content.digest)

    expect(next.digest).toBe(content.digest)
    expect(link.counts().down - from).toBeLessThan(BLOB_BYTES + 2 * HEADS_BYTES)
  })
})

describe('a warm blob', () => {
  it('is had by others while forty clients take nothing of it', async () => {
    const content = await coldBlob()
    const client = await reader()
    const isWarm = async () => sourceOf(await client.getBlob(NAME, content.digest)) === 'local'
    await until(isWarm, { what: 'the blob to be published' })
    const stalled = await Promise.all(Array.from({ length: 40 }, () => client.open(path(content))))

    const answer = await client.getBlob(NAME, content.digest)
    expect([answer.digest, sourceOf(answer)]).toEqual([content.digest, 'local'])
    expect(stalled.map(({ body }) => body.readableEnded)).not.toContain(true)
    for (const { body } of stalled) body.destroy()
  })
})
