/** One client of the soak: does each of its operations and holds every answer against the model. */
import { setTimeout as delay } from 'node:timers/promises'
import { digestOf } from '../../src/oci/digest.ts'
import { type Content, contentBytes } from '../support/content.ts'
import { allBlobs, allManifests, type Image } from '../support/images.ts'
import type { RegistryApi } from '../support/registry-api.ts'
import type { Catalogue } from './catalogue.ts'
import type { Place } from './disturbances.ts'
import type { Door } from './doors.ts'
import { intrude } from './intruder.ts'
import type { Asked, Model, Pending, Reply, Verdict } from './model.ts'
import type { Operation, Shape } from './operations.ts'
import { type Heard, partsOf, replyOf } from './reply.ts'

/** An answer that cannot be right, in words. */
export class WrongAnswerError extends Error {
  override readonly name = 'WrongAnswerError'
}

export interface ClientOptions {
  readonly name: string
  readonly place: Place
  readonly model: Model
  readonly catalogue: Catalogue
  readonly buildImage: (shape: Shape) => Promise<Image>
  /** A monotonic clock in milliseconds. */
  readonly now: () => number
  readonly onAnswer: (line: string, reply: Reply) => void
}

export interface Client {
  /** Throws `WrongAnswerError`. */
  take(operation: Operation, door: Door): Promise<void>
}

export type Request = () => Promise<Heard>
export type Ask = (what: string, request: Request) => Promise<Reply>

/** No answer may take longer: the sites' own patience ends before. */
const PATIENCE_MS = 40_000

export function createClient(options: ClientOptions): Client {
  const { name, place, model, catalogue, buildImage, now, onAnswer } = options

  async function ask(
    door: Door,
    what: string,
    request: Request,
  ): Promise<Reply & { body: Buffer | undefined }> {
    const start = now()
    let broke = ''
    const patience = new AbortController()
    const tooLong = delay(PATIENCE_MS, 'too long' as const, { signal: patience.signal, ref: false }).catch(
      () => undefined,
    )
    const answered = request().catch((error: unknown) => {
      broke = error instanceof Error ? error.message : String(error)
      return undefined
    })
    const first = await Promise.race([answered, tooLong])
    patience.abort()
    if (first === 'too long')
      throw new WrongAnswerError(`${name} at ${door.name}: ${what} has no answer after ${PATIENCE_MS} ms`)
    const answer = first
    const cut = answer && 'cut' in answer ? answer.cut : undefined
    const reply = replyOf(cut ? undefined : answer, { start, end: now() }, cut?.message ?? broke)
    const mark = reply.source === undefined ? '' : ` ${reply.source}`
    const found = catalogue.nameOf(reply.digest)
    onAnswer(
      `${name} at ${door.name}: ${what} → ${reply.status ?? 'broken off'}${mark} ${found} ${Math.round(reply.end - start)} ms`,
      reply,
    )
    return { ...reply, body: answer && 'body' in answer ? answer.body : undefined }
  }

  function check(verdict: Verdict, what: string): void {
    if (verdict !== undefined) throw new WrongAnswerError(`${name} (${place}): ${what}: ${verdict}`)
  }

  async function pullManifest(
    door: Door,
    asked: Asked,
    reference: string,
    method: 'GET' | 'HEAD',
    api: RegistryApi,
  ) {
    const { repository } = asked
    const what = `${method} ${repository}/manifests/${label(reference)}`
    const reply = await ask(door, what, () =>
      method === 'GET' ? api.getManifest(repository, reference) : api.headManifest(repository, reference),
    )
    const seen = method === 'HEAD' ? { ...reply, bodyDigest: undefined } : reply
    const isDigest = reference.includes(':')
    check(isDigest ? model.judgeDigest(asked, reference, seen) : model.judgeTag(asked, reference, seen), what)
    return reply
  }

  async function pullBlob(
    door: Door,
    asked: Asked,
    digest: string,
    method: 'GET' | 'HEAD',
    api: RegistryApi,
  ) {
    const { repository } = asked
    const what = `${method} ${repository}/blobs/${digest.slice(0, 15)}`
    const reply = await ask(door, what, () =>
      method === 'GET' ? api.getBlob(repository, digest) : api.headBlob(repository, digest),
    )
    check(
      model.judgeBlob(asked, digest, method === 'HEAD' ? { ...reply, bodyDigest: undefined } : reply),
      what,
    )
    return reply
  }

  async function pullRange(
    door: Door,
    asked: Asked,
    blob: Content,
    from: number,
    length: number,
  ): Promise<void> {
    const start = Math.floor(from * blob.sizeBytes)
    const end = Math.min(blob.sizeBytes - 1, start + Math.floor(length * 100_000))
    const expected = digestOf((await contentBytes(blob)).subarray(start, end + 1))
    const what = `GET ${asked.repository}/blobs/${blob.digest.slice(0, 15)} ${start}-${end}`
    const reply = await ask(door, what, () =>
      door.puller.getBlob(asked.repository, blob.digest, { range: `bytes=${start}-${end}` }),
    )
    check(model.judgeBlob(asked, blob.digest, reply, reply.status === 206 ? expected : blob.digest), what)
  }

  /** As one whose job was cancelled: it goes when it has had `bytes`, and takes no leave. */
  async function leaveBlob(door: Door, asked: Asked, digest: string, bytes: number): Promise<void> {
    const what = `GET ${asked.repository}/blobs/${digest.slice(0, 15)} and leave after ${bytes}`
    const reply = await ask(door, what, async () => {
      const { repository } = asked
      const scope = `repository:${repository}:pull`
      const answer = await door.puller.open(`/v2/${repository}/blobs/${digest}`, { scope })
      let had = 0
      for await (const chunk of answer.body as AsyncIterable<Buffer>) {
        had += chunk.length
        if (had >= bytes) break // Destroys the body, and its connection with it.
      }
      return { status: answer.status, headers: answer.headers }
    })
    check(model.judgeBlob(asked, digest, reply), what)
  }

  async function pullImage(door: Door, asked: Asked, reference: string): Promise<void> {
    const { status, body } = await pullManifest(door, asked, reference, 'GET', door.puller)
    if (status !== 200 || !body) return
    const { manifests, blobs } = partsOf(body)
    for (const digest of manifests) await pullImage(door, asked, digest)
    await Promise.all(blobs.map((digest) => pullBlob(door, asked, digest, 'GET', door.puller)))
  }

  /** As clients do it: what the primary has is not sent again. False: it stopped on the way. */
  async function pushBlob(door: Door, asked: Asked, blob: Content): Promise<boolean> {
    const { repository } = asked
    const found = await pullBlob(door, { ...asked, decidesUpload: true }, blob.digest, 'HEAD', door.pusher)
    const push = model.beginBlob(repository, blob.digest)
    if (found.status === 200) push.settle(found)
    if (found.status !== 404) return found.status === 200
    const what = `push ${repository}/blobs/${blob.digest.slice(0, 15)}`
    const reply = await ask(door, what, () => door.pusher.pushBlob(repository, blob))
    push.settle(reply)
    check(model.judgeUpload(asked, reply), what)
    return reply.status === 201
  }

  async function push(door: Door, asked: Asked, tag: string, image: Image): Promise<void> {
    const { repository } = asked
    for (const blob of allBlobs(image)) if (!(await pushBlob(door, asked, blob))) return
    for (const each of allManifests(image)) {
      const underTag = each === image ? tag : undefined
      if (each === image) catalogue.add(repository, image)
      const what = `PUT ${repository}/manifests/${underTag ?? each.digest.slice(0, 15)} ${catalogue.nameOf(each.digest)}`
      const put = () =>
        door.pusher.putManifest(repository, underTag ?? each.digest, each.bytes, each.mediaType)
      const { status } = await write(door, asked, what, model.beginPush(asked, each.digest, underTag), put)
      if (status !== 201) return
    }
  }

  async function write(
    door: Door,
    asked: Asked,
    what: string,
    pending: Pending,
    request: Request,
    accepted: readonly number[] = [],
  ): Promise<Reply> {
    const reply = await ask(door, what, request)
    pending.settle(reply)
    check(model.judgeWrite(asked, reply, accepted), what)
    return reply
  }

  async function remove(door: Door, asked: Asked, { digest }: Image): Promise<void> {
    const what = `DELETE ${asked.repository} ${catalogue.nameOf(digest)}`
    const request = () => door.pusher.deleteManifest(asked.repository, digest)
    const reply = await write(door, asked, what, model.beginDelete(asked, digest), request, [404])
    if (reply.status === 404) check(model.judgeDigest({ ...asked, decidesUpload: true }, digest, reply), what)
  }

  /** docker-registry 2.8 refuses it, and so nothing may change. */
  async function removeTag(door: Door, asked: Asked, tag: string): Promise<void> {
    const what = `DELETE ${asked.repository}:${tag}`
    const reply = await ask(door, what, () => door.pusher.deleteManifest(asked.repository, tag))
    check(model.judgeWrite(asked, reply, [400, 404, 405]), what)
    if ((reply.status ?? 500) < 300) check('this primary deletes tags: the model does not know that', what)
  }

  const label = (reference: string) => (reference.includes(':') ? catalogue.nameOf(reference) : reference)

  return {
    async take(operation, door) {
      const { repository } = operation
      const asked: Asked = { place, repository }
      const image =
        'pick' in operation
          ? catalogue.pick(
              'from' in operation && typeof operation.from === 'string' ? operation.from : repository,
              operation.pick,
            )
          : undefined
      switch (operation.do) {
        case 'pull tag': {
          const { tag, method, may } = operation
          const decidesUpload = may === 'push' && method === 'HEAD'
          await pullManifest(
            door,
            { ...asked, decidesUpload },
            tag,
            method,
            may === 'push' ? door.pusher : door.puller,
          )
          return
        }
        case 'pull image':
          return await pullImage(door, asked, operation.tag)
        case 'push':
          return await push(door, asked, operation.tag, await buildImage(operation.shape))
        case 'delete tag':
          return await removeTag(door, asked, operation.tag)
        case 'intrude': {
          const { what, elsewhere, request } = await intrude(operation, door, catalogue)
          check(model.judgeIntrusion(asked, await ask(door, what, request), elsewhere), what)
          return
        }
        default:
          if (image) await withImage(operation, door, asked, image)
      }
    },
  }

  async function withImage(operation: Operation, door: Door, asked: Asked, image: Image): Promise<void> {
    const blobs = allBlobs(image)
    switch (operation.do) {
      case 'pull digest':
        await pullManifest(door, asked, image.digest, operation.method, door.puller)
        return
      case 'pull blob': {
        const blob = blobs[Math.floor(operation.blob * blobs.length)]
        if (blob) await pullBlob(door, asked, blob.digest, operation.method, door.puller)
        return
      }
      case 'leave blob': {
        const blob = blobs.at(-1)
        if (blob) await leaveBlob(door, asked, blob.digest, Math.ceil(operation.part * blob.sizeBytes))
        return
      }
      case 'pull range': {
        const blob = blobs.at(-1)
        if (blob) await pullRange(door, asked, blob, operation.from, operation.length)
        return
      }
      case 'copy':
      case 'roll back':
        return await push(door, asked, operation.tag, image)
      case 'delete digest':
        return await remove(door, asked, image)
    }
  }
}
