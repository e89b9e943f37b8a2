/** Every way to push a blob, and what is read of it afterwards. */
import { Readable } from 'node:stream'
import { type Digest, type DigestAlgorithm, digestOf } from '../../src/oci/digest.ts'
import type { Answer } from '../support/registry-api.ts'
import {
  type Cases,
  closing,
  expectBytes,
  expectEqual,
  expectLocation,
  expectStatus,
  type Registry,
} from './cases.ts'
import { expectBlob } from './sample-cycle.ts'
import { blobOf, type SampleBlob } from './samples.ts'

const OCTETS = { 'content-type': 'application/octet-stream' }
const SIZE_BYTES = 8192
const CHUNK_BYTES = SIZE_BYTES / 4

interface Places {
  readonly repository: string
  /** Blobs are mounted from here. */
  readonly other: string
  readonly algorithm: DigestAlgorithm
}

type Send = Registry['send']
type Push = (send: Send, blob: SampleBlob, places: Places) => Promise<Answer>

/** Each ends with the answer that says the blob is there. */
const WAYS: Readonly<Record<string, Push>> = {
  'POST alone': async (send, blob, { repository }) =>
    await send('POST', `/v2/${repository}/blobs/uploads/?digest=${encodeURIComponent(blob.digest)}`, {
      headers: OCTETS,
      body: blob.bytes,
    }),
  'POST and PUT': async (send, blob, places) =>
    await finish(send, await session(send, places), blob.digest, blob.bytes),
  'one chunk': async (send, blob, places) => {
    const last = await patch(send, await session(send, places), blob.bytes, 0)
    return await finish(send, expectLocation(expectStatus(last, 202)), blob.digest)
  },
  'several chunks': async (send, blob, places) =>
    await finish(send, await sendChunks(send, await session(send, places), blob.bytes), blob.digest),
  'several chunks, the last in the PUT': async (send, blob, places) => {
    const rest = SIZE_BYTES - CHUNK_BYTES
    const location = await sendChunks(send, await session(send, places), blob.bytes.subarray(0, rest))
    return await send('PUT', closing(location, blob.digest), {
      headers: { ...OCTETS, 'content-range': `${rest}-${SIZE_BYTES - 1}` },
      body: blob.bytes.subarray(rest),
    })
  },
  'a stream': async (send, blob, places) => {
    const location = await session(send, places)
    const streamed = await send('PATCH', location, { headers: OCTETS, body: Readable.from([blob.bytes]) })
    return await finish(send, expectLocation(expectStatus(streamed, 202)), blob.digest)
  },
  'a chunk out of order, then on': async (send, blob, places) => {
    const first = blob.bytes.subarray(0, CHUNK_BYTES)
    const location = expectLocation(
      expectStatus(await patch(send, await session(send, places), first, 0), 202),
    )
    expectStatus(await patch(send, location, blob.bytes.subarray(CHUNK_BYTES * 2), CHUNK_BYTES * 2), 416)
    expectStatus(await patch(send, location, first, 0), 416)
    const status = expectStatus(await send('GET', location), 204)
    expectEqual('Range', status.headers['range'], `0-${CHUNK_BYTES - 1}`)
    const on = await patch(send, expectLocation(status), blob.bytes.subarray(CHUNK_BYTES), CHUNK_BYTES)
    return await finish(send, expectLocation(expectStatus(on, 202)), blob.digest)
  },
  'a mount': async (send, blob, { repository, other, algorithm }) => {
    expectStatus(
      await finish(send, await session(send, { repository: other, algorithm }), blob.digest, blob.bytes),
      201,
    )
    const query = `?mount=${encodeURIComponent(blob.digest)}&from=${encodeURIComponent(other)}`
    return expectStatus(await send('POST', `/v2/${repository}/blobs/uploads/${query}`), 201)
  },
  'a mount from anywhere': async (send, blob, places) => {
    const from = { repository: places.other, algorithm: places.algorithm }
    expectStatus(await finish(send, await session(send, from), blob.digest, blob.bytes), 201)
    const query = `?mount=${encodeURIComponent(blob.digest)}`
    return await orUpload(send, await send('POST', `/v2/${places.repository}/blobs/uploads/${query}`), blob)
  },
  'a mount of what is not there': async (send, blob, { repository, other }) => {
    const query = `?mount=${encodeURIComponent(blob.digest)}&from=${encodeURIComponent(other)}`
    return await orUpload(
      send,
      expectStatus(await send('POST', `/v2/${repository}/blobs/uploads/${query}`), 202),
      blob,
    )
  },
}

export async function checkBlobs({ check }: Cases, places: Places): Promise<void> {
  const { repository, algorithm } = places
  const path = `/v2/${repository}`
  const group = `${algorithm} blobs`
  const blobs = [
    ...Object.entries(WAYS).map(([way, push]) => ({
      way,
      push,
      blob: blobOf(`${algorithm} ${way}`, SIZE_BYTES, algorithm),
    })),
    { way: 'an empty blob', push: WAYS['POST and PUT'], blob: blobWith('', algorithm) },
    { way: 'an empty object', push: WAYS['POST and PUT'], blob: blobWith('{}', algorithm) },
  ]
  for (const { way, push, blob } of blobs) {
    const target = `${path}/blobs/${blob.digest}`
    await check(group, `${way}: absent before`, async ({ send }) =>
      expectStatus(await send('HEAD', target), 404),
    )
    await check(group, `${way}: push`, async ({ send }) => {
      const answer = expectStatus((await push?.(send, blob, places)) ?? missing(), 201)
      const there = await send('GET', expectLocation(answer))
      expectBlob(there, blob, 'GET')
    })
    for (const method of ['HEAD', 'GET']) {
      await check(group, `${way}: ${method}`, async ({ send }) =>
        expectBlob(await send(method, target), blob, method),
      )
    }
    await check(group, `${way}: DELETE`, async ({ send }) => {
      expectStatus(await send('DELETE', target), 202)
      expectStatus(await send('HEAD', target), 404)
      expectStatus(await send('GET', target), 404)
    })
  }
  await checkRanges({ check }, places)
  await checkRefusals({ check }, places)
}

/** `Range` → the part to answer, or 416. */
const RANGES: readonly [range: string, part: readonly [from: number, to: number] | undefined][] = [
  ['bytes=500-1499', [500, 1499]],
  ['bytes=500-', [500, SIZE_BYTES - 1]],
  ['bytes=-500', [SIZE_BYTES - 500, SIZE_BYTES - 1]],
  ['bytes=2000-50000', [2000, SIZE_BYTES - 1]],
  [`bytes=${SIZE_BYTES}-${SIZE_BYTES * 2}`, undefined],
  ['bytes=500-0', undefined],
]

async function checkRanges({ check }: Pick<Cases, 'check'>, places: Places): Promise<void> {
  const group = `${places.algorithm} blobs`
  const blob = blobOf(`${places.algorithm} ranges`, SIZE_BYTES, places.algorithm)
  const target = `/v2/${places.repository}/blobs/${blob.digest}`
  await check(group, 'ranges: push', async ({ send }) =>
    expectStatus(await finish(send, await session(send, places), blob.digest, blob.bytes), 201),
  )
  // Twice: the first is answered while the blob is nowhere but at the primary, the second from wherever it is then.
  for (const time of ['first', 'second']) {
    for (const [range, part] of RANGES) {
      await check(group, `ranges: ${range}, the ${time} time`, async ({ send }) => {
        const answer = await send('GET', target, { headers: { range } })
        if (!part) return void expectStatus(answer, 416)
        const [from, to] = part
        expectStatus(answer, 206)
        expectEqual('Content-Range', answer.headers['content-range'], `bytes ${from}-${to}/${SIZE_BYTES}`)
        expectBytes(answer, blob.bytes.subarray(from, to + 1))
      })
    }
    await check(group, `ranges: all of it, the ${time} time`, async ({ send }) =>
      expectBlob(await send('GET', target), blob, 'GET'),
    )
  }
  await check(group, 'ranges: DELETE', async ({ send }) => expectStatus(await send('DELETE', target), 202))
}

async function checkRefusals({ check }: Pick<Cases, 'check'>, places: Places): Promise<void> {
  const group = `${places.algorithm} blobs`
  const claimed = blobOf(`${places.algorithm} claimed`, SIZE_BYTES, places.algorithm)
  const lie: SampleBlob = { digest: claimed.digest, bytes: blobOf('something else', SIZE_BYTES).bytes }
  const ways = ['POST alone', 'POST and PUT', 'one chunk', 'several chunks, the last in the PUT', 'a stream']
  for (const way of ways) {
    await check(group, `another digest: ${way}`, async ({ send }) => {
      expectStatus((await WAYS[way]?.(send, lie, places)) ?? missing(), 400)
      expectStatus(await send('HEAD', `/v2/${places.repository}/blobs/${lie.digest}`), 404)
    })
  }
  await check(group, 'cancel', async ({ send }) => {
    const location = await session(send, places)
    const patched = expectStatus(await patch(send, location, claimed.bytes.subarray(0, CHUNK_BYTES), 0), 202)
    expectStatus(await send('DELETE', expectLocation(patched)), 204)
    expectStatus(await send('GET', expectLocation(patched)), 404)
  })
  await check(group, 'cancel what has no bytes', async ({ send }) => {
    expectStatus(await send('DELETE', await session(send, places)), 204)
  })
}

type Session = Pick<Places, 'repository' | 'algorithm'>

async function session(send: Send, { repository, algorithm }: Session): Promise<string> {
  const query = algorithm === 'sha256' ? '' : `?digest-algorithm=${algorithm}`
  return expectLocation(expectStatus(await send('POST', `/v2/${repository}/blobs/uploads/${query}`), 202))
}

async function patch(send: Send, location: string, bytes: Buffer, start: number): Promise<Answer> {
  const headers = { ...OCTETS, 'content-range': `${start}-${start + bytes.length - 1}` }
  return await send('PATCH', location, { headers, body: bytes })
}

async function sendChunks(send: Send, location: string, bytes: Buffer): Promise<string> {
  let next = location
  for (let start = 0; start < bytes.length; start += CHUNK_BYTES) {
    const answer = expectStatus(
      await patch(send, next, bytes.subarray(start, start + CHUNK_BYTES), start),
      202,
    )
    expectEqual('Range', answer.headers['range'], `0-${start + CHUNK_BYTES - 1}`)
    next = expectLocation(answer)
  }
  return next
}

async function finish(send: Send, location: string, digest: Digest, bytes?: Buffer): Promise<Answer> {
  return await send('PUT', closing(location, digest), { headers: OCTETS, ...(bytes && { body: bytes }) })
}

/** A mount that was not done is an upload that was begun. */
async function orUpload(send: Send, answer: Answer, blob: SampleBlob): Promise<Answer> {
  return answer.status === 201
    ? answer
    : await finish(send, expectLocation(expectStatus(answer, 202)), blob.digest, blob.bytes)
}

function blobWith(text: string, algorithm: DigestAlgorithm): SampleBlob {
  const bytes = Buffer.from(text)
  return { bytes, digest: digestOf(bytes, algorithm) }
}

function missing(): never {
  throw new Error('there is no such way to push')
}
