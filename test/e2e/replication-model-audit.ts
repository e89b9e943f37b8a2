/** What must be so once everything works again: the site equals the primary, on disk, in its answers and by its own word. */
import { allBlobs, allManifests, type Image } from '../support/images.ts'
import type { RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { type Held, heldUnder } from './replication-model-disk.ts'
import type { Clients, World } from './replication-model-world.ts'

/** What an event announced and the primary does not show is waited for until it is a minute old. */
const DEADLINE_MS = 90_000
/** A hand that clears what failed during an outage, instead of waiting out its delay. */
const RESYNC_EVERY_MS = 1000
const NOTHING: Held = { tags: new Map(), manifests: new Set(), layers: new Set() }

/** Resolves when the site has become equal; `tally` counts released brakes. */
export async function converge(
  world: World,
  images: readonly Image[],
  accepted: readonly string[],
  tally: Map<string, number>,
): Promise<void> {
  const { site } = world
  let resyncedAtMs = 0
  let last: string[] = []

  async function help(): Promise<void> {
    const { brake } = await site.status()
    if (brake?.tripped) {
      await site.admin('POST', '/brake/release')
      tally.set('brake released', (tally.get('brake released') ?? 0) + 1)
    }
    if (performance.now() - resyncedAtMs < RESYNC_EVERY_MS) return
    resyncedAtMs = performance.now()
    const { repositories } = (await site.admin('GET', '/repositories?state=failed')) as {
      readonly repositories: readonly { readonly path: string }[]
    }
    for (const { path } of repositories) await site.admin('POST', `/repositories/${path}/resync`)
  }

  const isEqual = async () => {
    await help()
    last = await differences(world, images, accepted)
    return last.length === 0 && (await site.status()).in_step
  }
  await until(isEqual, {
    what: 'the site to equal the primary',
    deadlineMs: DEADLINE_MS,
    everyMs: 100,
  }).catch(async (cause) => {
    const rows = JSON.stringify(await site.admin('GET', '/repositories?limit=1000'), null, 1)
    const status = JSON.stringify(await site.status(), null, 1)
    const log = site.one.site.lines.filter(({ msg }) => msg !== 'access').slice(-40)
    const lines = log.map((line) => JSON.stringify(line))
    throw new Error([String(cause), ...last, status, rows, ...lines].join('\n'), { cause })
  })
}

/** What is not the same on both disks, a line each. */
async function differences(
  world: World,
  images: readonly Image[],
  accepted: readonly string[],
): Promise<string[]> {
  const there = await heldUnder(world.site.primary.root)
  const here = await heldUnder(world.site.one.site.root)
  const found: string[] = []
  for (const name of new Set([...there.keys(), ...here.keys()])) {
    const [ours, theirs] = [here.get(name) ?? NOTHING, there.get(name) ?? NOTHING]
    for (const tag of new Set([...ours.tags.keys(), ...theirs.tags.keys()])) {
      const [digest, wanted] = [ours.tags.get(tag), theirs.tags.get(tag)]
      if (digest !== wanted) found.push(`${name}:${tag} is ${digest} here and ${wanted} there`)
    }
    for (const digest of ours.manifests) {
      if (!theirs.manifests.has(digest)) found.push(`${name}@${digest} is only here`)
      const image = images.find((each) => each.digest === digest)
      if (image) found.push(...lacking(ours, image).map((what) => `${name}@${digest} lacks ${what}`))
    }
    for (const digest of ours.tags.values()) {
      if (!ours.manifests.has(digest)) found.push(`${name}@${digest} is tagged and not linked`)
    }
    for (const digest of theirs.manifests) {
      if (accepted.includes(`${name} ${digest}`) && !ours.manifests.has(digest)) {
        found.push(`${name}@${digest}, whose push was told of, is only there`)
      }
    }
  }
  return found
}

function lacking({ manifests, layers }: Held, image: Image): string[] {
  const needed = allManifests(image).filter(({ digest }) => !manifests.has(digest))
  const blobs = allBlobs(image).filter(({ digest }) => !layers.has(digest))
  return [...needed, ...blobs].map(({ digest }) => digest)
}

/** With everything equal: every question has one answer, whoever is asked. Throws the first that has not. */
export async function compareAnswers(
  { names, reader, there }: Clients,
  images: readonly Image[],
): Promise<void> {
  for (const name of names) {
    const digests = images.flatMap((image) => allManifests(image).map(({ digest }) => digest))
    for (const reference of ['t0', 't1', 't2', 'many0', ...digests]) {
      const ask = async (api: RegistryApi) => {
        const { status, digest } = await api.getManifest(name, reference)
        return status === 200 ? digest : status
      }
      same(`${name}/manifests/${reference}`, await ask(reader), await ask(there))
    }
    for (const { digest } of images.flatMap(allBlobs)) {
      const [one, other] = [await reader.headBlob(name, digest), await there.headBlob(name, digest)]
      same(`${name}/blobs/${digest}`, one.status, other.status)
    }
  }
}

function same(what: string, here: unknown, there: unknown): void {
  if (here !== there) throw new Error(`${what} is ${here} here and ${there} there`)
}
