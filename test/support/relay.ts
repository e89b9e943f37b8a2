/** `geo-registry relay` as a child process, configured by a file as a sysadmin would. */
import { join } from 'node:path'
import { stringify } from 'yaml'
import { deepMerge, type Tree } from './deep-merge.ts'
import { freePort } from './port.ts'
import { type Exit, type Program, startProgram, waitForHttp } from './process.ts'
import { tempFolder } from './temp.ts'

const MAIN = join(import.meta.dirname, '../../src/main.ts')

export interface RelayOptions {
  /** `upstream.url`. */
  readonly primary: string
  /** `relay.instances`; default none are named. */
  readonly instances?: readonly string[]
  /** Names of the sites; the token of each is `token-of-<name>`. Default `tokyo`. */
  readonly sites?: readonly string[]
  /** Where events are taken; a registry has to know it before the relay knows the registry. Default a free one. */
  readonly eventsPort?: number
  /** Merged over the whole configuration; `undefined` takes a key out. */
  readonly config?: Tree
  /** How long each start may take; default 15 s. */
  readonly readyWithinMs?: number
}

export interface RelayProcess extends AsyncDisposable {
  /** Where sites ask for the log, `http://127.0.0.1:<port>`. */
  readonly url: string
  readonly adminUrl: string
  readonly configFile: string
  readonly folder: string
  /** The file of a site's token. */
  tokenFile(name: string): string
  readonly pid: number
  logs(): string
  readonly exited: Promise<Exit>
  stop(): Promise<void>
  kill(): Promise<void>
  /** On the same ports and folder, with options changed from now on where given. Not while it runs. */
  start(changes?: Partial<RelayOptions>): Promise<void>
  signal(signal: NodeJS.Signals): void
}

export const RELAY_SECRET = 'aTwenty-characters_secret'

/** The `notifications` of a docker-registry that tells a relay there, as `config render notifications` prints them. */
export function notifiesRelay(eventsPort: number): Tree {
  return {
    endpoints: [
      {
        name: 'geo_registry_relay',
        url: `http://127.0.0.1:${eventsPort}/notifications`,
        headers: { Authorization: [RELAY_SECRET] },
        timeout: '2s',
        threshold: 5,
        backoff: '1s',
        ignore: { mediatypes: ['application/octet-stream'] },
      },
    ],
  }
}

/** Resolves when events are taken. */
export async function startRelayProcess(initial: RelayOptions): Promise<RelayProcess> {
  await using starting = new AsyncDisposableStack()
  const folder = starting.use(await tempFolder('relay'))
  const [port, adminPort, eventsPort] = [
    await freePort(),
    await freePort(),
    initial.eventsPort ?? (await freePort()),
  ]
  const configFile = join(folder.path, 'relay.yml')
  const tokenFile = (name: string) => join(folder.path, `${name}.token`)
  let options = initial

  async function launch(): Promise<Program> {
    const { primary, instances, sites = ['tokyo'], config = {} } = options
    for (const name of sites) await folder.write(`${name}.token`, `token-of-${name}\n`)
    const base = {
      version: 1,
      site: { name: 'relay' },
      http: { events: { addr: `127.0.0.1:${eventsPort}` }, admin: { addr: `127.0.0.1:${adminPort}` } },
      replication: { notifications: { secret: RELAY_SECRET } },
      upstream: { url: primary },
      auth: { none: {} },
      storage: { filesystem: { rootdirectory: join(folder.path, 'root') } },
      relay: {
        addr: `127.0.0.1:${port}`,
        ...(instances && { instances }),
        sites: sites.map((name) => ({ name, tokenfile: tokenFile(name) })),
      },
    }
    await folder.write('relay.yml', stringify(deepMerge(base, config)))
    const program = await startProgram(process.execPath, [MAIN, 'relay', '--config', configFile])
    await waitForHttp(program, `http://127.0.0.1:${adminPort}/-/readiness`, {
      accept: (status) => status === 200,
      ...(options.readyWithinMs !== undefined && { deadlineMs: options.readyWithinMs }),
    })
    return program
  }

  let running = await launch()
  starting.defer(stop)
  const owned = starting.move()
  async function stop(): Promise<void> {
    await running.stop({ deadlineMs: 15_000 })
  }
  return {
    url: `http://127.0.0.1:${port}`,
    adminUrl: `http://127.0.0.1:${adminPort}`,
    configFile,
    folder: join(folder.path, 'root/geo-registry/relay'),
    tokenFile,
    get pid() {
      return running.pid
    },
    logs: () => running.logs(),
    get exited() {
      return running.exited
    },
    stop,
    kill: async () => void (await running.kill()),
    async start(changes = {}) {
      if (!running.exit) throw new Error('this relay is running: stop it first')
      options = { ...options, ...changes }
      running = await launch()
    },
    signal: (signal) => running.signal(signal),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
