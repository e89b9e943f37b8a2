/** One story of the replication model: does each step, and writes down what every tag may be from then on. */
import { access, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { allBlobs, allManifests, type Image } from '../support/images.ts'
import type { Answer, RegistryApi } from '../support/registry-api.ts'
import { createHistory, type History, type Via } from './model-history.ts'
import { type Base, MANY_TAGS, type Repository, type Step, type Write } from './replication-model-steps.ts'
import type { Clients, World } from './replication-model-world.ts'

export interface Run {
  take(step: Step): Promise<void>
  /** Of a tag, by the repository's whole name. */
  history(name: string, tag: string): History
  /** `<repository> <digest>` that were pushed without a tag and never deleted or moved since. */
  readonly untagged: ReadonlySet<string>
  /** What was done and what came of it, a line each. */
  readonly story: readonly string[]
}

export interface RunOptions {
  readonly images: readonly Image[]
  /** Mends everything and waits until the site equals the primary. */
  readonly settle: () => Promise<void>
}

export function createRun(world: World, clients: Clients, { images, settle }: RunOptions): Run {
  const { names, writer, there } = clients
  const { site, post } = world
  const histories = new Map<string, Map<string, History>>()
  const untagged = new Set<string>()
  const tainted = new Set<string>()
  const story: string[] = []
  let renames = 0

  const nameOf = (repository: Repository): string => names[repository] ?? fail(`no repository ${repository}`)
  const imageOf = (index: number): Image => images[index] ?? fail(`no image ${index}`)
  const folderOf = (name: string) => join(site.primary.root, 'docker/registry/v2/repositories', name)
  const say = (what: string) => void story.push(`${world.tick()} ${what}`)

  function history(name: string, tag: string): History {
    const tags = histories.get(name) ?? new Map<string, History>()
    histories.set(name, tags)
    const known = tags.get(tag) ?? createHistory()
    tags.set(tag, known)
    return known
  }

  /** Sends what changes tags, and records it in the histories of all of them. */
  async function change(
    via: Via,
    what: string,
    concerned: readonly (readonly [History, 'put' | 'delete', string])[],
    send: () => Promise<Answer>,
  ): Promise<number | undefined> {
    const start = world.tick()
    const isLost = world.isAway
    const pending = concerned.map(([tag, kind, digest]) => tag.begin({ kind, digest, via, start }))
    const answer = await send().catch(() => undefined)
    const status = answer?.status
    const unclear = status === undefined || status >= 500
    // What was sent to nobody has not taken effect; what was cut off on its way may have, or may yet.
    const refused = (unclear && isLost && world.isAway) || (status !== undefined && !unclear && status >= 300)
    for (const one of pending) {
      one.settle(refused ? 'refused' : unclear ? 'lost' : 'acknowledged', world.tick())
    }
    story.push(`${start}-${world.tick()} ${via} ${what} → ${status ?? 'broken off'}`)
    if (via === 'primary' && (status ?? 0) >= 500) fail(`the primary itself answered ${status} to ${what}`)
    return status
  }

  async function pushContents(api: RegistryApi, name: string, image: Image): Promise<boolean> {
    const isCreated = async (sending: Promise<Answer>) =>
      (await sending.catch(() => undefined))?.status === 201
    for (const blob of allBlobs(image)) if (!(await isCreated(api.pushBlob(name, blob)))) return false
    for (const child of allManifests(image)) {
      if (child === image) continue
      if (!(await isCreated(api.putManifest(name, child.digest, child.bytes, child.mediaType)))) return false
    }
    return true
  }

  async function push({ via, repository, tag, image: index }: Extract<Write, { do: 'push' }>) {
    if (via === 'site' && world.isDown) return
    const name = nameOf(repository)
    const api = via === 'site' ? writer : there
    const image = imageOf(index)
    if (!(await pushContents(api, name, image))) return say(`${via} push of image ${index} came to nothing`)
    const reference = tag === undefined ? image.digest : `t${tag}`
    const concerned = tag === undefined ? [] : ([[history(name, `t${tag}`), 'put', image.digest]] as const)
    const what = `PUT ${name}:${reference} image ${index}`
    const status = await change(via, what, concerned, () =>
      api.putManifest(name, reference, image.bytes, image.mediaType),
    )
    const key = `${name} ${image.digest}`
    if (tag === undefined && status === 201 && !tainted.has(key)) untagged.add(key)
  }

  async function remove({ via, repository, image: index }: Extract<Write, { do: 'delete' }>) {
    if (via === 'site' && world.isDown) return
    const name = nameOf(repository)
    const { digest } = imageOf(index)
    taint(name, digest)
    const tags = [...(histories.get(name)?.values() ?? [])]
    const concerned = tags.map((tag) => [tag, 'delete', digest] as const)
    const api = via === 'site' ? writer : there
    await change(via, `DELETE ${name} image ${index}`, concerned, () => api.deleteManifest(name, digest))
  }

  /** Whether a pushed digest is here can no longer be told from its events. */
  function taint(name: string, digest: string): void {
    tainted.add(`${name} ${digest}`)
    untagged.delete(`${name} ${digest}`)
  }

  async function move(from: Base): Promise<void> {
    const [source, target] = [nameOf(from === 0 ? 0 : 2), nameOf(from === 0 ? 2 : 0)]
    if (!(await exists(folderOf(source))) || (await exists(folderOf(target)))) return
    const pending = await Promise.all(['', '/below'].map((below) => moving(source + below, target + below)))
    await rename(folderOf(source), folderOf(target))
    for (const one of pending.flat()) one.settle('acknowledged', world.tick())
    say(`renamed ${source} to ${target}`)
    await post.send(renameEvent(source, target, `${names[0]}#${++renames}`))
  }

  /** What was at `source` is at `target` then, and there nothing is left. */
  async function moving(source: string, target: string) {
    const start = world.tick()
    const begun = []
    for (const [tag, past] of histories.get(source) ?? []) {
      const answer = await there.headManifest(source, tag)
      const digest = answer.status === 200 ? answer.headers['docker-content-digest'] : undefined
      for (const image of images) {
        begun.push(past.begin({ kind: 'delete', digest: image.digest, via: 'primary', start }))
      }
      if (digest === undefined) continue
      begun.push(history(target, tag).begin({ kind: 'put', digest, via: 'primary', start }))
    }
    for (const name of [source, target]) for (const { digest } of images) taint(name, digest)
    return begun
  }

  async function pushMany(repository: Repository, index: number): Promise<void> {
    const name = nameOf(repository)
    const image = imageOf(index)
    if (!(await pushContents(there, name, image))) fail('the primary does not take an image')
    for (let number = 0; number < MANY_TAGS; number++) {
      const answer = await there.putManifest(name, `many${number}`, image.bytes, image.mediaType)
      if (answer.status !== 201) fail(`the primary itself answered ${answer.status}`)
    }
    say(`${MANY_TAGS} tags of image ${index} pushed to ${name}`)
  }

  async function trouble({ during, how, afterMs }: Extract<Step, { do: 'trouble' }>): Promise<void> {
    const strike = async () => {
      await delay(afterMs)
      say(`trouble: ${how}`)
      await (how === 'cut' ? world.link('cut') : world.run('kill'))
    }
    const ends = await Promise.allSettled([take(during), strike()])
    for (const end of ends) if (end.status === 'rejected') throw end.reason
    if (how === 'kill') await world.run('start')
  }

  async function take(step: Step): Promise<void> {
    switch (step.do) {
      case 'push':
        return await push(step)
      case 'delete':
        return await remove(step)
      case 'rename':
        return await move(step.from)
      case 'push many':
        return await pushMany(step.repository, step.image)
      case 'trouble':
        return await trouble(step)
      case 'settle':
        return await settle()
      case 'let be':
        await delay(step.forMs)
        return
      case 'events':
        say(`events: ${step.how}`)
        return step.how === 'release' ? await post.release() : post.behave(step.how)
      default:
        say(`${step.do}: ${step.how}`)
        if (step.do === 'link') return await world.link(step.how)
        return step.do === 'site' ? await world.run(step.how) : await world.jobs(step.how)
    }
  }

  return { take, history, untagged, story }
}

/** As GitLab's registry sends it (facts: `target.repository` is the old base). */
function renameEvent(from: string, to: string, id: string) {
  return {
    id,
    timestamp: new Date().toISOString(),
    action: 'rename',
    target: { repository: from, rename: { type: 'name', from, to } },
    request: { id, method: 'PATCH', useragent: 'GitLab' },
    actor: {},
  }
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

function fail(what: string): never {
  throw new Error(what)
}
