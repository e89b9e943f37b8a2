/** A Docker engine of Debian's, as root with its own data, socket and containerd, without a network of its own. */
import { join } from 'node:path'
import { contentBytes } from '../content.ts'
import { runProgram, startProgram, waitUntilReady } from '../process.ts'
import { tarLayer } from '../tar-layer.ts'
import { tempFolder } from '../temp.ts'
import type { RegistryClient } from './client.ts'

export interface Docker extends RegistryClient {
  readonly pid: number
  logs(): string
}

export async function startDocker(): Promise<Docker> {
  await using starting = new AsyncDisposableStack()
  const folder = starting.use(await tempFolder('docker'))
  const { path } = folder
  const socket = `unix://${path}/docker.sock`
  const env = { HOME: path, DOCKER_CONFIG: join(path, 'client'), DOCKER_HOST: socket }
  const daemon = await startProgram(
    'dockerd',
    [
      ...[
        '--host',
        socket,
        '--pidfile',
        join(path, 'docker.pid'),
        '--config-file',
        await folder.write('daemon.json', '{}'),
      ],
      ...['--data-root', join(path, 'data'), '--exec-root', join(path, 'exec'), '--storage-driver', 'vfs'],
      ...['--iptables=false', '--ip6tables=false', '--bridge=none'],
    ],
    { env },
  )
  await waitUntilReady(daemon, 'dockerd to answer', 60_000, async () => {
    await runProgram('docker', ['version'], { env })
    return true
  })
  // It ends its own containerd before it ends itself, which takes longer than other programs do.
  starting.defer(async () => void (await daemon.stop({ deadlineMs: 20_000 })))
  const owned = starting.move()
  const docker: Docker = {
    name: 'docker',
    pid: daemon.pid,
    logs: daemon.logs,
    exec: (args, options) => runProgram('docker', args, { env, ...options }),
    async login(host, username, password) {
      await docker.exec(['login', '--username', username, '--password-stdin', host], { input: password })
    },
    async pull(reference) {
      await docker.exec(['image', 'prune', '--all', '--force'])
      await docker.exec(['pull', '--quiet', reference])
    },
    async push(reference) {
      await docker.exec(['push', '--quiet', reference])
    },
    async make(reference, seed) {
      const layer = await tarLayer({ sizeBytes: 20_000, seed, mediaType: 'application/x-tar' })
      const file = await folder.write('make.tar', await contentBytes(layer))
      await docker.exec(['import', file, reference])
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
  return docker
}
