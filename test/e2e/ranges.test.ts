/** Ranges and conditions on blobs, as RFC 9110 has them, for blobs that are here and for blobs that are not. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Content, contentBytes, randomContent } from '../support/content.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { signingKey } from '../support/keys.ts'
import { type Link, startLink } from '../support/link.ts'
import type { Answer, Headers, RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { type OneSite, REALM, sourceOf, startOneSite } from './one-site.ts'
import { isPublished, spoolsOf } from './store-files.ts'

const NAME = 'team/app'
const SIZE = 3_000_000

let primary: DockerRegistry
let link: Link
let one: OneSite
let reader: RegistryApi
let seed = 0

beforeAll(async () => {
  const auth = {
    realm: REALM,
    service: 'container_registry',
    issuer: 'gitlab-issuer',
    key: await signingKey(),
  }
  primary = await startDockerRegistry({ auth })
  link = await startLink({ target: primary.url })
  one = await startOneSite(link.url)
  reader = await one.client({ [NAME]: ['pull'] })
})
afterAll(async () => {
  await one[Symbol.asyncDispose]()
  await link[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

async function coldBlob(): Promise<{ content: Content; bytes: Buffer }> {
  seed += 1
  const content = await randomContent(SIZE, { seed: `ranges ${seed}` })
  const there = await one.client({ [NAME]: ['pull', 'push'] }, primary.url)
  expect((await there.pushBlob(NAME, content)).status).toBe(201)
  return { content, bytes: await contentBytes(content) }
}

/** The same one for all: it is only read. */
let warm: ReturnType<typeof heldBlob> | undefined
const warmBlob = () => (warm ??= heldBlob())

async function heldBlob() {
  const blob = await coldBlob()
  expect((await reader.getBlob(NAME, blob.content.digest)).digest).toBe(blob.content.digest)
  await until(() => isPublished(one.site.root, blob.content.digest), { what: 'the blob to be published' })
  return blob
}

const ask = (content: Content, headers: Headers, method = 'GET') =>
  reader.request(method, `/v2/${NAME}/blobs/${content.digest}`, { headers })

/** The parts of `multipart/byteranges`, each as its Content-Range and its bytes; everything around them must be right. */
function partsOf(answer: Answer): [string, Buffer][] {
  const type = answer.headers['content-type'] ?? ''
  const [, boundary = ''] = /^multipart\/byteranges; boundary=([\w'()+,./:=?-]{1,70})$/.exec(type) ?? []
  expect(boundary, type).not.toBe('')
  expect(answer.headers['content-range']).toBeUndefined()
  expect(answer.headers['content-length']).toBe(String(answer.body.length))
  const text = answer.body.toString('latin1')
  const [preamble, ...rest] = text.split(`--${boundary}`)
  expect(preamble).toMatch(/^(\r\n)?$/)
  expect(rest.pop()).toMatch(/^--(\r\n)?$/)
  return rest.map((part) => {
    const [, head = '', body = ''] = /^\r\n(.*?)\r\n\r\n(.*)\r\n$/s.exec(part) ?? []
    const [, range = ''] = /^content-range: (.*)$/im.exec(head) ?? []
    expect(head).toMatch(/^content-type: application\/octet-stream\r?$/im)
    return [range, Buffer.from(body, 'latin1')]
  })
}

describe('a lone range of a blob that is not here', () => {
  it.each([
    ['bytes=1000-1999', 1000, 1999],
    ['bytes=1000-', 1000, SIZE - 1],
    ['bytes=-500', SIZE - 500, SIZE - 1],
    ['bytes=0-0', 0, 0],
    [`bytes=${SIZE - 10}-${SIZE + 1000}`, SIZE - 10, SIZE - 1],
  ])('is answered %s by the primary, and nothing else is fetched', async (range, start, end) => {
    const { content, bytes } = await coldBlob()
    const before = link.counts().down

    const answer = await ask(content, { range })

    expect([answer.status, sourceOf(answer)]).toEqual([206, 'primary'])
    expect(answer.headers['content-range']).toBe(`bytes ${start}-${end}/${SIZE}`)
    expect(answer.headers['content-length']).toBe(String(end - start + 1))
    expect(answer.body.equals(bytes.subarray(start, end + 1))).toBe(true)
    expect(link.counts().down - before).toBeLessThan(end - start + 4096)
    expect(await spoolsOf(one.site.root)).toEqual([])
    expect(await isPublished(one.site.root, content.digest)).toBe(false)
  })

  it('is 416 with the size when it lies behind the end', async () => {
    const { content } = await coldBlob()
    const answer = await ask(content, { range: `bytes=${SIZE}-` })

    expect([answer.status, answer.headers['content-range']]).toEqual([416, `bytes */${SIZE}`])
  })

  it('is 416 with the size when it ends before it begins, though the primary would cut the connection', async () => {
    const { content } = await coldBlob()
    const answer = await ask(content, { range: 'bytes=500-0' })

    expect([answer.status, answer.headers['content-range']]).toEqual([416, `bytes */${SIZE}`])
  })

  it('is 404 where the primary has no such blob', async () => {
    const content = await randomContent(100, { seed: 'nowhere' })
    const answer = await ask(content, { range: 'bytes=10-19' })

    expect([answer.status, answer.body.toString()]).toEqual([404, expect.stringContaining('BLOB_UNKNOWN')])
  })

  it('is the whole blob when If-Range names something else', async () => {
    const { content } = await coldBlob()
    const answer = await ask(content, { range: 'bytes=10-19', 'if-range': '"other"' })

    expect([answer.status, answer.digest]).toEqual([200, content.digest])
  })

  it('is 304 to a client that already has the blob, without a byte of it crossing', async () => {
    const { content } = await coldBlob()
    const before = link.counts().down
    for (const headers of [{ range: 'bytes=10-1000000' }, {}]) {
      const answer = await ask(content, { ...headers, 'if-none-match': `"${content.digest}"` })
      expect([answer.status, answer.body.length]).toEqual([304, 0])
    }
    expect(link.counts().down - before).toBeLessThan(4096)
    expect(await isPublished(one.site.root, content.digest)).toBe(false)
  })
})

describe('several ranges', () => {
  it.each([
    ['that is not here', coldBlob],
    ['that is here', warmBlob],
  ])('of a blob %s come as multipart/byteranges, in the order they were asked for', async (_, make) => {
    const { content, bytes } = await make()
    const answer = await ask(content, { range: 'bytes=2000-2099, 0-0,-100 ,1000000-1999999' })

    expect(answer.status).toBe(206)
    expect(partsOf(answer)).toEqual([
      [`bytes 2000-2099/${SIZE}`, bytes.subarray(2000, 2100)],
      [`bytes 0-0/${SIZE}`, bytes.subarray(0, 1)],
      [`bytes ${SIZE - 100}-${SIZE - 1}/${SIZE}`, bytes.subarray(-100)],
      [`bytes 1000000-1999999/${SIZE}`, bytes.subarray(1_000_000, 2_000_000)],
    ])
  })

  it('of which only one can be answered come as that one', async () => {
    const { content, bytes } = await warmBlob()
    const answer = await ask(content, { range: `bytes=${SIZE}-,5-9` })

    expect([answer.status, answer.headers['content-range']]).toEqual([206, `bytes 5-9/${SIZE}`])
    expect(answer.body).toEqual(bytes.subarray(5, 10))
  })

  it('that overlap to more than the blob never cost more than the blob', async () => {
    const { content } = await warmBlob()
    const answer = await ask(content, { range: `bytes=${Array(60).fill('0-').join(',')}` })

    expect(answer.body.length).toBeLessThan(SIZE * 1.01)
  })
})

describe('a blob that is here', () => {
  it.each([
    ['bytes=1000-1999', 1000, 1999],
    ['bytes=-1', SIZE - 1, SIZE - 1],
    [`bytes=-${SIZE * 2}`, 0, SIZE - 1],
    ['bytes=0-', 0, SIZE - 1],
  ])('is served %s from here', async (range, start, end) => {
    const { content, bytes } = await warmBlob()
    const answer = await ask(content, { range, 'if-range': `"${content.digest}"` })

    expect([answer.status, sourceOf(answer)]).toEqual([206, 'local'])
    expect(answer.headers['content-range']).toBe(`bytes ${start}-${end}/${SIZE}`)
    expect(answer.body.equals(bytes.subarray(start, end + 1))).toBe(true)
  })

  it.each([`bytes=${SIZE}-`, 'bytes=-0', 'bytes=9-5', `bytes=${SIZE}-${SIZE + 5},${SIZE + 10}-`])(
    'is 416 with its size for %s',
    async (range) => {
      const { content } = await warmBlob()
      const answer = await ask(content, { range })

      expect([answer.status, answer.headers['content-range']]).toEqual([416, `bytes */${SIZE}`])
      expect(answer.body.toString()).toContain('RANGE_INVALID')
    },
  )

  it('is whole for a range nobody can read', async () => {
    const { content } = await warmBlob()
    for (const range of ['bytes=a-b', 'bytes=', 'items=0-5', 'bytes=0-5,x', 'bytes 0-5']) {
      const answer = await ask(content, { range })
      expect([answer.status, answer.digest], range).toEqual([200, content.digest])
    }
  })

  it('is whole when If-Range names another version, a weak tag or a date', async () => {
    const { content } = await warmBlob()
    for (const condition of ['"other"', `W/"${content.digest}"`, new Date().toUTCString()]) {
      const answer = await ask(content, { range: 'bytes=0-9', 'if-range': condition })
      expect([answer.status, answer.digest]).toEqual([200, content.digest])
    }
  })

  it('is 304 without a body to If-None-Match, in each of its forms and before any range', async () => {
    const { content } = await warmBlob()
    const tag = `"${content.digest}"`
    for (const condition of [tag, `W/${tag}`, `"x", ${tag}`, '*']) {
      const answer = await ask(content, { range: 'bytes=0-9', 'if-none-match': condition })
      expect([answer.status, answer.headers['etag'], answer.body.length]).toEqual([304, tag, 0])
    }
    expect((await ask(content, { 'if-none-match': '"other"' })).status).toBe(200)
  })
})

describe('HEAD of a blob', () => {
  it.each([
    ['not here', coldBlob],
    ['here', warmBlob],
  ])('that is %s has the headers of GET and no body, and ranges mean nothing to it', async (_, make) => {
    const { content } = await make()
    const heads = [await ask(content, {}, 'HEAD'), await ask(content, { range: 'bytes=0-9' }, 'HEAD')]
    const got = await ask(content, {})

    for (const head of heads) {
      expect([head.status, head.body.length]).toEqual([200, 0])
      expect(lasting(head)).toEqual(lasting(got))
    }
    expect(got.headers['content-length']).toBe(String(SIZE))
  })
})

/** Without what differs from one request to the next, and what is said of the connection (undici asks to close it). */
function lasting({ headers }: Answer): Answer['headers'] {
  const {
    date,
    connection,
    'keep-alive': keepAlive,
    'x-request-id': requestId,
    'geo-registry-source': source,
    ...kept
  } = headers
  return kept
}
