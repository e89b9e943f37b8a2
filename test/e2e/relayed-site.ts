/**
 * A registry of two processes on one storage folder behind one NGINX, a relay beside them, and sites that follow it and
 * ask for tags only what the watermark does not cover. All with token auth; the registry tells nobody but the relay.
 */
import { isDeepStrictEqual } from 'node:util'
import { runCommand } from '../../src/command.ts'
import type { RelayReport } from '../../src/status/relay-report.ts'
import type { StatusReport } from '../../src/status/status-report.ts'
import { deepMerge, type Tree } from '../support/deep-merge.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { buildImage } from '../support/images.ts'
import { mintToken, repositoryAccess, signingKey } from '../support/keys.ts'
import { type Link, type Shape, startLink } from '../support/link.ts'
import { bearer } from '../support/login.ts'
import { type Nginx, startNginx } from '../support/nginx.ts'
import { freePort } from '../support/port.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { notifiesRelay, type RelayProcess, startRelayProcess } from '../support/relay.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { REALM } from './one-site.ts'
import { registryFolder } from './registry-folder.ts'

export type Tagged = readonly [repository: string, tag: string]

/** `tags.maxstaleness` of the sites. */
export const MAX_STALENESS_MS = 5_000
const ALL = ['pull', 'push', 'delete']
/** An epoch begins 5 s after what ended the last one; a busy machine may end one more. */
export const EPOCH_DEADLINE_MS = 60_000

export interface FollowingSite {
  readonly name: string
  readonly process: GeoRegistry
  /** Between the site and the relay; undefined for one that is `direct`. */
  readonly line: Link | undefined
  /** A client that may do everything with the repositories. */
  readonly api: RegistryApi
  status(): Promise<StatusReport>
  /** Resolves when a watermark covers what is asked for here. */
  covered(): Promise<void>
  /** What the tag is here; undefined: there is no such tag. */
  pull(repository: string, tag: string): Promise<string | undefined>
}

export interface RelayedSites extends AsyncDisposable {
  readonly registries: readonly [DockerRegistry, DockerRegistry]
  readonly nginx: Nginx
  /** The storage folder of both. */
  readonly root: string
  readonly relay: RelayProcess
  /** Where the relay takes events. */
  readonly eventsUrl: string
  /** In the order of their names. */
  readonly sites: readonly FollowingSite[]
  /** A client of the registry, through NGINX. */
  readonly there: RegistryApi
  relayStatus(): Promise<RelayReport>
  /** Resolves when a watermark covers what is asked for at each site. */
  covered(): Promise<void>
  /** Resolves when the tags on each site's disk are those on the primary's, which nobody is asked for. */
  copied(): Promise<void>
  /** Resolves when the relay and every site say the same sentence of this kind; with the sentence. */
  bothSay(sentence: RegExp): Promise<string>
  /** A further process of the registry, on the same folder, which `relay.instances` does not name. */
  startStranger(): Promise<DockerRegistry>
  client(url: string): Promise<RegistryApi>
}

export interface RelayedOptions {
  readonly repositories: readonly string[]
  /** Default tokyo and lima. */
  readonly sites?: readonly string[]
  /** Further names that the relay knows, for whoever reads its log. Default none. */
  readonly readers?: readonly string[]
  /** The line between the relay and each site; `direct`: there is none. Default one that does nothing. */
  readonly line?: ((site: string) => Shape) | 'direct'
  /** Of every site. */
  readonly config?: Tree
}

export async function startRelayedSites(options: RelayedOptions): Promise<RelayedSites> {
  const { repositories, sites: names = ['tokyo', 'lima'], readers = [] } = options
  const { line = () => ({}), config = {} } = options
  await using starting = new AsyncDisposableStack()
  const key = await signingKey()
  const folder = starting.use(await tempFolder('relayed'))
  const keyfile = await folder.write('site.key', key.privateKeyPem, 0o600)
  const auth = { realm: REALM, service: 'container_registry', issuer: 'gitlab-issuer', key }
  const ownCredential: Tree = { auth: { keyfile, issuer: auth.issuer, service: auth.service } }
  const eventsPort = await freePort()
  const root = `${folder.path}/root`
  const startRegistry = async () =>
    starting.use(
      await startDockerRegistry({ auth, root, notifications: notifiesRelay(eventsPort), config: ACCESS_LOG }),
    )
  const registries = await Promise.all([startRegistry(), startRegistry()])
  const origins = registries.map(({ url }) => url)
  const nginx = starting.use(
    await startNginx({ balanced: { registry: origins }, servers: [{ proxyTo: 'http://registry' }] }),
  )
  const relay = starting.use(
    await startRelayProcess({
      primary: nginx.url,
      instances: origins,
      sites: [...names, ...readers],
      eventsPort,
      config: { upstream: ownCredential, auth: undefined },
    }),
  )
  async function client(url: string): Promise<RegistryApi> {
    const access = repositories.map((name) => repositoryAccess(name, ALL))
    const exp = Math.floor(Date.now() / 1000) + 3600
    const authorization = bearer(await mintToken(key, { access, sub: 'user', exp }))
    return clients.use(createRegistryApi(url, { authorize: () => authorization }))
  }
  const clients = starting.use(new AsyncDisposableStack())

  async function startSite(name: string): Promise<FollowingSite> {
    const link =
      line === 'direct' ? undefined : starting.use(await startLink({ target: relay.url, ...line(name) }))
    const base: Tree = {
      site: { name },
      upstream: ownCredential,
      tags: { freshness: 'watermark', maxstaleness: `${MAX_STALENESS_MS}ms` },
      relay: { url: link?.url ?? relay.url, tokenfile: relay.tokenFile(name) },
      replication: { enabled: true, requests: '1000/s' },
    }
    const process = starting.use(
      await startGeoRegistry({ primary: nginx.url, auth, config: deepMerge(base, config) }),
    )
    return followingSite(name, process, link, await client(process.url))
  }
  const sites = await Promise.all(names.map(startSite))
  const there = await client(nginx.url)
  const owned = starting.move()
  const relayStatus = async () => (await statusOf(relay.adminUrl)) as RelayReport
  return {
    registries,
    nginx,
    root,
    relay,
    eventsUrl: `http://127.0.0.1:${eventsPort}/notifications`,
    sites,
    there,
    relayStatus,
    covered: async () => void (await Promise.all(sites.map((site) => site.covered()))),
    async copied() {
      for (const site of sites) {
        const isCopied = async () => isDeepStrictEqual(await tagsIn(site.process.root), await tagsIn(root))
        const what = `the tags at ${site.name} to be those of the primary`
        try {
          await until(isCopied, { what, deadlineMs: 60_000, everyMs: 100 })
        } catch (cause) {
          const found = { here: await tagsIn(site.process.root), there: await tagsIn(root) }
          throw new Error(`not ${what}: ${JSON.stringify(found, null, 1)}`, { cause })
        }
      }
    },
    async bothSay(sentence) {
      const said = async () => {
        const { note } = await relayStatus()
        const heard = await Promise.all(sites.map(async ({ status }) => (await status()).relay?.note))
        return note !== null && sentence.test(note) && heard.every((one) => one === note) && note
      }
      return await until(said, { what: `${sentence} from the relay and the sites`, deadlineMs: 30_000 })
    },
    startStranger: async () =>
      owned.use(await startDockerRegistry({ auth, root, notifications: notifiesRelay(eventsPort) })),
    client,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

function followingSite(
  name: string,
  process: GeoRegistry,
  line: Link | undefined,
  api: RegistryApi,
): FollowingSite {
  const status = async () => (await statusOf(process.adminUrl)) as StatusReport
  return {
    name,
    process,
    line,
    api,
    status,
    async covered() {
      await until(
        async () => {
          const age = (await status()).relay?.watermark_age_seconds
          return age != null && age * 1000 < MAX_STALENESS_MS
        },
        { what: `a watermark at ${name}`, deadlineMs: EPOCH_DEADLINE_MS },
      )
    },
    async pull(repository, tag) {
      const { status: code, headers } = await api.getManifest(repository, tag)
      if (code === 404) return undefined
      if (code !== 200) throw new Error(`${name} answered a pull of ${repository}:${tag} with ${code}`)
      return headers['docker-content-digest']
    },
  }
}

const tagsIn = (root: string) => registryFolder(root).allTags()

async function statusOf(adminUrl: string): Promise<unknown> {
  return await (await fetch(`${adminUrl}/status`)).json()
}

/** The digest of a new image, which the tag now is there. */
export async function pushNew(
  api: RegistryApi,
  repository: string,
  tag: string,
  seed: string | number,
): Promise<string> {
  const image = await buildImage({ seed: `${repository}:${tag} ${seed}`, layers: [1_000] })
  await pushImage(api, repository, tag, image)
  return image.digest
}

/**
 * Resolves when a pull at the site finds the tag as it has been at the primary since `sinceMs` (undefined: gone). Throws
 * when a pull that began later than `tags.maxstaleness` after that moment still found what was there before (law 2).
 */
export async function becomes(
  { name, pull }: FollowingSite,
  [repository, tag]: Tagged,
  digest: string | undefined,
  sinceMs: number,
): Promise<void> {
  for (;;) {
    const ageMs = performance.now() - sinceMs
    const found = await pull(repository, tag)
    if (found === digest) return
    if (ageMs > MAX_STALENESS_MS) {
      throw new Error(
        `${name} gave ${found} for ${repository}:${tag}, ${Math.round(ageMs)} ms after ${digest}`,
      )
    }
  }
}

/** What `geo-registry <words>` says, with the configuration in that file; lines without what they are indented by. */
export async function commandSays(configFile: string, ...words: readonly string[]) {
  let text = ''
  const write = (written: string) => {
    text += written
  }
  const status = await runCommand([...words, '--config', configFile], { out: write, err: write })
  // Its columns are for people.
  return { status, text: text.replaceAll(/^ +/gm, '') }
}

/** Requests alone, a line each, so that the test kit's memory of a process's output holds many. */
const ACCESS_LOG: Tree = { log: { level: 'error', accesslog: { disabled: false } } }
