/** What a registry of several processes was asked, by its access logs: who asks a primary, and for what. */
import type { DockerRegistry } from '../support/docker-registry.ts'
import { until } from '../support/wait.ts'
import { EPOCH_DEADLINE_MS, type FollowingSite, type RelayedSites, type Tagged } from './relayed-site.ts'

const REQUEST = / "[A-Z]+ \/v2\//

export const isCanary = (line: string) => line.includes('"geo-registry canary/')
/** What every site sends every 20 s, pulls or none, to keep a connection to its primary warm. */
export const isPing = (line: string) => line.includes('"GET /v2/ HTTP/')

/** Of each registry, a line of its access log for each request, canaries too; and how long they took to come. */
export interface Requests {
  readonly lines: readonly (readonly string[])[]
  readonly elapsedMs: number
}

/**
 * The requests that the registries were sent while the work went on. Canaries tell where it began and ended, since lines
 * stand in the order of the answers: it takes up to 2 s more.
 */
export async function requestsDuring(
  registries: readonly DockerRegistry[],
  work: () => Promise<void>,
): Promise<Requests> {
  const began = await Promise.all(registries.map(nextCanary))
  const beganAtMs = performance.now()
  await work()
  const ended = await Promise.all(registries.map(nextCanary))
  const elapsedMs = performance.now() - beganAtMs
  const lines = registries.map((registry, index) => {
    const all = requestLines(registry)
    const [from, to] = [all.indexOf(began[index] ?? ''), all.indexOf(ended[index] ?? '')]
    if (from < 0 || to < from) throw new Error(`${registry.url} was asked more than the kit remembers`)
    return all.slice(from + 1, to + 1)
  })
  return { lines, elapsedMs }
}

/** As `requestsDuring`, of all registries, and without canaries and pings: what somebody wanted to know. */
export async function askedDuring(
  registries: readonly DockerRegistry[],
  work: () => Promise<void>,
): Promise<string[]> {
  const { lines } = await requestsDuring(registries, work)
  return lines.flat().filter((line) => !isCanary(line) && !isPing(line))
}

/**
 * Resolves when pulls of the tag at all sites give the digest and ask nobody: it is covered, and jobs that would ask too
 * have ended.
 */
export async function pulledUnasked(
  { registries, sites }: RelayedSites,
  [repository, tag]: Tagged,
  digest: string,
): Promise<void> {
  const pulls = async () => {
    for (let pull = 0; pull < 10; pull++) {
      for (const site of sites) {
        const found = await site.pull(repository, tag)
        if (found !== digest) throw new Error(`${site.name} gave ${found} for ${repository}:${tag}`)
      }
    }
  }
  await until(async () => (await askedDuring(registries, pulls)).length === 0, {
    what: `pulls of ${repository}:${tag} that ask nobody`,
    deadlineMs: EPOCH_DEADLINE_MS,
  })
}

/** Resolves when a pull of the tag at the site asks the primary once, whatever jobs ask meanwhile. */
export async function pulledAsked(
  registries: readonly DockerRegistry[],
  { name, pull }: FollowingSite,
  [repository, tag]: Tagged,
): Promise<void> {
  const asks = ` /v2/${repository}/manifests/${tag} `
  await until(
    async () => {
      const lines = await askedDuring(registries, async () => void (await pull(repository, tag)))
      return lines.filter((line) => line.includes(asks)).length === 1
    },
    { what: `a pull of ${repository}:${tag} at ${name} that asks`, deadlineMs: EPOCH_DEADLINE_MS },
  )
}

function requestLines(registry: DockerRegistry): string[] {
  return registry
    .logs()
    .split('\n')
    .filter((line) => REQUEST.test(line))
}

async function nextCanary(registry: DockerRegistry): Promise<string> {
  const before = new Set(requestLines(registry).filter(isCanary))
  return await until(() => requestLines(registry).find((line) => isCanary(line) && !before.has(line)), {
    what: `a canary at ${registry.url}`,
    deadlineMs: 20_000,
  })
}
