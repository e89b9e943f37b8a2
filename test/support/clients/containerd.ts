/** containerd and its `ctr`, with its own daemon, root and socket. */
import { join } from 'node:path'
import { buildImage } from '../images.ts'
import { writeOciLayout } from '../oci-layout.ts'
import { runProgram, startProgram, waitUntilReady } from '../process.ts'
import { tempFolder } from '../temp.ts'
import type { RegistryClient } from './client.ts'

/** Only what `ctr` needs to pull, unpack and push. */
function configuration(path: string): string {
  return `version = 2
root = "${path}/root"
state = "${path}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "${path}/containerd.sock"
`
}

export interface Containerd extends RegistryClient {
  readonly pid: number
  logs(): string
}

export async function startContainerd(): Promise<Containerd> {
  await using starting = new AsyncDisposableStack()
  const folder = starting.use(await tempFolder('containerd'))
  const { path } = folder
  const env = { HOME: path }
  const daemon = await startProgram(
    'containerd',
    ['--config', await folder.write('config.toml', configuration(path))],
    {
      env,
    },
  )
  const ctr = (args: readonly string[]) => ['--address', join(path, 'containerd.sock'), ...args]
  await waitUntilReady(daemon, 'containerd to answer', 30_000, async () => {
    await runProgram('ctr', ctr(['version']), { env })
    return true
  })
  starting.use(daemon)
  const owned = starting.move()
  // ctr keeps no credentials: it is given them with every command.
  const users = new Map<string, string>()
  const transport = (reference: string): string[] => {
    const user = users.get(reference.slice(0, reference.indexOf('/')))
    return ['--plain-http', ...(user === undefined ? [] : ['--user', user])]
  }
  const client: Containerd = {
    name: 'containerd',
    pid: daemon.pid,
    logs: daemon.logs,
    exec: (args, options) => runProgram('ctr', ctr(args), { env, ...options }),
    async login(host, username, password) {
      const response = await fetch(`http://${host}/v2/`)
      if (response.status !== 200 && response.status !== 401)
        throw new Error(`${host} answers ${response.status}`)
      users.set(host, `${username}:${password}`)
    },
    async pull(reference) {
      const { stdout } = await client.exec(['images', 'ls', '--quiet'])
      const held = stdout.split('\n').filter(Boolean)
      if (held.length > 0) await client.exec(['images', 'rm', '--sync', ...held])
      // native copies files, so that it works on any filesystem.
      const options = ['--snapshotter', 'native', '--platform', 'linux/amd64', ...transport(reference)]
      await client.exec(['images', 'pull', ...options, reference])
    },
    async push(reference) {
      await client.exec(['images', 'push', ...transport(reference), reference])
    },
    async make(reference, seed) {
      await using layout = await tempFolder('layout')
      const [, name = '', tag = ''] = /^(.+):([^:]+)$/.exec(reference) ?? []
      await writeOciLayout(layout.path, await buildImage({ seed }), tag)
      const archive = join(path, 'make.tar')
      await runProgram('tar', ['-C', layout.path, '-cf', archive, 'oci-layout', 'index.json', 'blobs'])
      await client.exec(['images', 'import', '--snapshotter', 'native', '--base-name', name, archive])
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
  return client
}
