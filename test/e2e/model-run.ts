/** One run of the model test: does each step, writes down what is known from then on, and holds every answer against it. */
import { setTimeout as delay } from 'node:timers/promises'
import { digestOf } from '../../src/oci/digest.ts'
import { contentBytes } from '../support/content.ts'
import type { Image } from '../support/images.ts'
import type { Answer, RegistryApi } from '../support/registry-api.ts'
import { createHistory, type History, type Span, type Via, type Write } from './model-history.ts'
import type { Step, Turn } from './model-steps.ts'
import type { Clients, World } from './model-world.ts'

type ReadStep = Extract<Step, { do: 'read tag' | 'read manifest' | 'read blob' }>

/** An answer with when it was asked for and when it had come; undefined when the connection broke off instead. */
interface Asked extends Span {
  readonly answer: Answer | undefined
}

export interface Run {
  take(turn: Turn): Promise<void>
  /** With nothing under way: the site says of every tag what the primary says. */
  audit(): Promise<void>
  /** What was done and what came of it, a line each. */
  readonly story: readonly string[]
}

/** docker-registry’s own answer where a push and a delete of one digest, or of its tags, get in each other's way. */
const CONFUSED = 500

/** `tally` counts where answers came from. */
export function createRun(
  world: World,
  { names, reader, writer, there }: Clients,
  images: readonly Image[],
  tally: Map<string, number>,
): Run {
  const histories = new Map<string, History>()
  /** Blobs that were answered from here, and must be whatever becomes of the primary. */
  const held = new Set<string>()
  /** Digests whose delete the primary answered 404: asked about again, and no longer taken for confirmed. */
  const doubted = new Set<string>()
  /** The image last pushed under a tag. */
  const pushed = new Map<string, number>()
  const story: string[] = []

  function historyOf(...key: readonly (string | number)[]): History {
    const id = key.join(' ')
    const history = histories.get(id) ?? createHistory()
    histories.set(id, history)
    return history
  }
  const tagHistory = (repository: number, tag: number) => historyOf('tag', repository, tag)
  const linkHistory = (repository: number, digest: string) => historyOf('link', repository, digest)
  const imageOf = (index: number): Image => images[index] ?? fail(`there is no image ${index}`)
  const apiOf = (via: Via): RegistryApi => (via === 'site' ? writer : there)

  function fail(what: string): never {
    throw new Error(what)
  }
  function check(holds: boolean, what: string): void {
    if (!holds) fail(what)
  }

  async function ask(what: string, request: () => Promise<Answer>): Promise<Asked> {
    const start = world.tick()
    const answer = await request().catch(() => undefined)
    const end = world.tick()
    const outcome = answer
      ? `${answer.status} ${answer.headers['geo-registry-source'] ?? 'primary itself'}`
      : 'broken off'
    tally.set(outcome, (tally.get(outcome) ?? 0) + 1)
    story.push(`${start}-${end} ${what} → ${outcome} ${named(answer?.headers['docker-content-digest'])}`)
    return { start, end, answer }
  }

  function named(digest: string | undefined): string {
    const index = images.findIndex((image) => image.digest === digest)
    return index === -1 ? (digest?.slice(0, 15) ?? '') : `image ${index}`
  }

  const isAway = async (span: Span) =>
    world.wasAway(span) || (await world.isExcused(span)) || world.wasAway(span)

  /** What a site may say instead of an answer, and when. True when it did. */
  async function isExcuse({ answer, ...span }: Asked, mayBreakOff: boolean): Promise<boolean> {
    if (!answer) {
      check(world.wasDown(span) || (mayBreakOff && (await isAway(span))), 'the connection broke off')
      return true
    }
    if (answer.status !== 503) return false
    check(await isAway(span), '503 although the primary was there')
    check(answer.headers['retry-after'] !== undefined, '503 without Retry-After')
    return true
  }

  async function read(step: ReadStep): Promise<void> {
    const { who, method, repository } = step
    const name = names[repository]
    const path = pathOf(step)
    const isBlob = step.do === 'read blob'
    const blob = isBlob ? imageOf(step.image).blobs[step.blob] : undefined
    const range = isBlob && step.part && method === 'GET' ? { start: 3, end: 90 } : undefined
    const asked = await ask(`${who} ${method} ${name}/${path}${range ? ' (part)' : ''}`, () =>
      requestOf(who === 'reader' ? reader : writer, method, name, path, range),
    )
    if (who === 'writer' && method === 'HEAD') return await judgeWriterHead(step, asked)
    const { answer } = asked
    if (answer?.status === 200 || answer?.status === 206) {
      const whole = blob && (await contentBytes(blob))
      const expected = range && whole ? digestOf(whole.subarray(range.start, range.end + 1)) : undefined
      const wanted = expected ?? answer.headers['docker-content-digest']
      check(method === 'HEAD' || answer.digest === wanted, `the bytes are ${answer.digest}, not ${wanted}`)
      check(
        answer.status === (range ? 206 : 200),
        `${answer.status} to a read of ${range ? 'a part' : 'all'}`,
      )
    }
    if (step.do === 'read tag') await judgeTag(step, asked)
    else await judgeDigest(step, asked)
  }

  function pathOf(step: ReadStep): string {
    if (step.do === 'read tag') return `manifests/t${step.tag}`
    return step.do === 'read manifest' ? `manifests/${digestOfStep(step)}` : `blobs/${digestOfStep(step)}`
  }

  function digestOfStep(step: Exclude<ReadStep, { do: 'read tag' }>): string {
    const image = imageOf(step.image)
    return step.do === 'read manifest'
      ? image.digest
      : (image.blobs[step.blob]?.digest ?? fail('no such blob'))
  }

  async function judgeTag(step: Extract<ReadStep, { do: 'read tag' }>, asked: Asked): Promise<void> {
    const { answer, ...span } = asked
    const history = tagHistory(step.repository, step.tag)
    const promised = world.isAwayThroughout(span) && !world.wasDown(span) ? history.heldFor(span) : undefined
    const digest = answer?.headers['docker-content-digest']
    if (promised !== undefined)
      check(digest === promised, `in an outage, ${named(promised)} was to be served`)
    if (await isExcuse(asked, false)) return
    if (answer?.status === 404) {
      check(history.mayBe(undefined, span), '404 for a tag that is there')
      history.learn({ ...span, value: undefined })
      return
    }
    check(answer?.status === 200 && digest !== undefined, `${answer?.status} to a read of a tag`)
    if (digest === undefined) return
    check(isLinkedSomehow(step.repository, digest, span), 'a manifest that was never in this repository')
    const isStale = answer?.headers['geo-registry-source'] === 'stale'
    check(isStale === (answer?.headers['warning'] !== undefined), 'stale and Warning do not go together')
    if (isStale) {
      check(await isAway(span), 'stale although the primary was there')
      check(history.mayBeStale(digest, span), `stale ${named(digest)}, which is known to be superseded`)
      return
    }
    check(history.mayBe(digest, span), `${named(digest)} is older than the last acknowledged write`)
    history.learn({ ...span, value: digest })
    linkHistory(step.repository, digest).learn({ ...span, value: digest })
  }

  const isLinkedSomehow = (repository: number, digest: string, span: Span) =>
    linkHistory(repository, digest).mayBe(digest, span, { bySiteOnly: true })

  async function judgeDigest(step: Exclude<ReadStep, { do: 'read tag' }>, asked: Asked): Promise<void> {
    const { answer, ...span } = asked
    const digest = digestOfStep(step)
    const key = `${step.repository} ${digest}`
    const history = linkHistory(step.repository, digest)
    const isBlob = step.do === 'read blob'
    const isPromised = isBlob ? held.has(key) : history.heldFor(span) !== undefined
    if (isPromised && !world.wasDown(span)) check(answer?.status !== 503, '503 for what is held here')
    if (await isExcuse(asked, isBlob)) return
    if (answer?.headers['warning'] !== undefined) {
      check(doubted.has(key), 'a Warning within digests.recheck')
      check(await isAway(span), 'stale although the primary was there')
    }
    if (answer?.status === 404) {
      check(history.mayBe(undefined, span), '404 for what the primary has')
      history.learn({ ...span, value: undefined })
      return
    }
    check(answer?.status === 200 || answer?.status === 206, `${answer?.status} to a read by digest`)
    check(isLinkedSomehow(step.repository, digest, span), 'content that this repository does not have')
    if (!isBlob) history.learn({ ...span, value: digest })
    else if (answer?.headers['geo-registry-source'] === 'local') held.add(key)
  }

  /** Law 4: the primary's answer, or none. */
  async function judgeWriterHead(step: ReadStep, asked: Asked): Promise<void> {
    const { answer, ...span } = asked
    const isThroughout = world.isAwayThroughout(span) && !world.wasDown(span)
    check(!isThroughout || answer?.status === 503, `${answer?.status} to a writer’s HEAD in an outage`)
    if (await isExcuse(asked, false)) return
    check(
      answer?.headers['geo-registry-source'] === 'primary',
      'a writer’s HEAD was not the primary’s to answer',
    )
    const isTag = step.do === 'read tag'
    const found = isTag ? answer?.headers['docker-content-digest'] : digestOfStep(step)
    const history = isTag
      ? tagHistory(step.repository, step.tag)
      : linkHistory(step.repository, digestOfStep(step))
    const value = answer?.status === 404 ? undefined : found
    check(answer?.status === 404 || answer?.status === 200, `${answer?.status} to a writer’s HEAD`)
    check(history.mayBe(value, span), `a writer’s HEAD: ${named(value)} is not what the primary has`)
  }

  /** Sends a write and records it in all it concerns; resolves with its answer. */
  async function write(
    via: Via,
    what: string,
    concerned: readonly (readonly [History, Omit<Write, 'via' | 'start'>])[],
    request: () => Promise<Answer>,
  ): Promise<Asked> {
    const start = world.tick()
    const pending = concerned.map(([history, about]) => history.begin({ ...about, via, start }))
    const asked = await ask(`${via} ${what}`, request)
    const { status = 599 } = asked.answer ?? {}
    const outcome = status < 300 ? 'acknowledged' : status < 500 ? 'refused' : 'lost'
    for (const one of pending) one.settle(outcome, world.tick())
    if (via === 'site') await isExcuse(asked, true)
    else check(status <= CONFUSED, `the primary itself answered ${status}`)
    return asked
  }

  async function push({ via, repository, tag, image: index }: Extract<Step, { do: 'push' }>): Promise<void> {
    const image = imageOf(index)
    const name = names[repository]
    const api = apiOf(via)
    for (const blob of image.blobs) {
      const link = linkHistory(repository, blob.digest)
      const asked = await ask(`${via} HEAD ${name}/blobs/${blob.digest}`, () =>
        api.headBlob(name, blob.digest),
      )
      const step = { do: 'read blob', who: 'writer', method: 'HEAD', repository, image: index } as const
      if (via === 'site')
        await judgeWriterHead({ ...step, blob: image.blobs.indexOf(blob), part: false }, asked)
      if (asked.answer?.status === 200) continue
      if (asked.answer?.status !== 404) return
      const put = { kind: 'put', digest: blob.digest } as const
      const { answer } = await write(via, `push ${name}/blobs/${blob.digest}`, [[link, put]], () =>
        api.pushBlob(name, blob),
      )
      if (answer?.status !== 201) {
        check(answer === undefined || answer.status === 503, `a blob’s push was answered ${answer?.status}`)
        return
      }
    }
    pushed.set(`${repository} ${tag}`, index)
    const put = { kind: 'put', digest: image.digest } as const
    const concerned = [
      [tagHistory(repository, tag), put],
      [linkHistory(repository, image.digest), put],
    ] as const
    const { answer } = await write(via, `PUT ${name}:t${tag} image ${index}`, concerned, () =>
      api.putManifest(name, `t${tag}`, image.bytes, image.mediaType),
    )
    const said = answer?.body.toString('utf8').slice(0, 200)
    check(
      [undefined, 201, CONFUSED, 503].includes(answer?.status),
      `a manifest’s push was answered ${answer?.status} ${said}`,
    )
    if (answer?.status === 201 && via === 'site') await look(repository, tag)
  }

  async function remove({ via, repository, tag }: Extract<Step, { do: 'delete' }>): Promise<void> {
    const index = pushed.get(`${repository} ${tag}`) ?? 0
    const { digest } = imageOf(index)
    const about = { kind: 'delete', digest } as const
    const link = linkHistory(repository, digest)
    const concerned = [link, tagHistory(repository, 0), tagHistory(repository, 1)].map(
      (history) => [history, about] as const,
    )
    const name = names[repository]
    const { answer, ...span } = await write(via, `DELETE ${name} image ${index}`, concerned, () =>
      apiOf(via).deleteManifest(name, digest),
    )
    if (answer?.status === 404) {
      check(link.mayBe(undefined, span), 'a delete of what is there was answered 404')
      if (via === 'site') doubted.add(`${repository} ${digest}`)
    } else
      check(
        [undefined, 202, CONFUSED, 503].includes(answer?.status),
        `a delete was answered ${answer?.status}`,
      )
  }

  /** docker-registry 2.8 refuses it, and so nothing may change. */
  async function removeTag({ repository, tag }: Extract<Step, { do: 'delete tag' }>): Promise<void> {
    const name = names[repository]
    const asked = await ask(`site DELETE ${name}:t${tag}`, () => writer.deleteManifest(name, `t${tag}`))
    tagHistory(repository, tag).refusedHere(asked)
    if (await isExcuse(asked, false)) return
    const refused = await there.deleteManifest(name, `t${tag}`)
    check(refused.status >= 400, 'this primary deletes tags: the model does not know that')
    check(asked.answer?.status === refused.status, `${asked.answer?.status} instead of ${refused.status}`)
  }

  /** The primary itself must agree with the model. */
  async function look(repository: number, tag: number): Promise<string | undefined> {
    const name = names[repository === 0 ? 0 : 1]
    const { answer, ...span } = await ask(`primary GET ${name}:t${tag}`, () =>
      there.getManifest(name, `t${tag}`),
    )
    const value = answer?.status === 200 ? answer.digest : undefined
    check(answer?.status === 200 || answer?.status === 404, `the primary itself answered ${answer?.status}`)
    check(
      tagHistory(repository, tag).mayBe(value, span),
      `the primary has ${named(value)}, which no acknowledged push left there`,
    )
    return value
  }

  async function take(turn: Turn): Promise<void> {
    switch (turn.do) {
      case 'push':
        return await push(turn)
      case 'delete':
        return await remove(turn)
      case 'delete tag':
        return await removeTag(turn)
      case 'outage':
        story.push(`${world.tick()} outage: ${turn.how}`)
        world.begin(turn.how)
        for (const one of turn.meanwhile) await take(one)
        await world.recover()
        story.push(`${world.tick()} recovered`)
        return
      case 'restart':
        story.push(`${world.tick()} restart: ${turn.how}`)
        return await world.restart(turn.how)
      case 'together':
        return await together(turn)
      default:
        return await read(turn)
    }
  }

  async function together({ steps, trouble }: Extract<Turn, { do: 'together' }>): Promise<void> {
    const strike = async () => {
      if (!trouble) return
      await delay(trouble.afterMs)
      story.push(`${world.tick()} trouble: ${trouble.how}`)
      if (trouble.how === 'cut') world.begin('cut')
      else await world.kill()
    }
    const outcomes = await Promise.allSettled([...steps.map(take), strike()])
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
    if (trouble?.how === 'kill') await world.restart('kill')
    if (trouble?.how === 'cut') await world.recover()
  }

  async function audit(): Promise<void> {
    for (const repository of [0, 1] as const) {
      for (const tag of [0, 1] as const) {
        const before = await look(repository, tag)
        const asked = await ask(`audit GET ${names[repository]}:t${tag}`, () =>
          reader.getManifest(names[repository], `t${tag}`),
        )
        await judgeTag({ do: 'read tag', who: 'reader', method: 'GET', repository, tag }, asked)
        const { status, digest } = asked.answer ?? {}
        const said = status === 200 ? digest : undefined
        const isSettled = before === (await look(repository, tag)) && !(await isAway(asked))
        check(!isSettled || said === before, `the primary has ${named(before)}, the site ${named(said)}`)
      }
    }
  }

  return { take, audit, story }
}

/** Bodies are read whole, whoever asks for what: images here are small. */
function requestOf(
  api: RegistryApi,
  method: string,
  name: string,
  path: string,
  range: { readonly start: number; readonly end: number } | undefined,
): Promise<Answer> {
  if (path.startsWith('manifests/')) {
    const reference = path.slice('manifests/'.length)
    return method === 'GET' ? api.getManifest(name, reference) : api.headManifest(name, reference)
  }
  const headers = range ? { range: `bytes=${range.start}-${range.end}` } : {}
  return api.request(method, `/v2/${name}/${path}`, { headers })
}
