/** What the figures were taken on. */
import { cpus, loadavg, totalmem } from 'node:os'
import { runProgram } from '../support/process.ts'

/** One line: size, processor, versions, date, and how busy it was before the bench began. */
export async function describeMachine(): Promise<string> {
  const [nginx, registry] = await Promise.all([
    // `nginx -v` answers on standard error.
    versionIn('sh', ['-c', 'nginx -v 2>&1']),
    versionIn('docker-registry', ['--version']),
  ])
  const processors = cpus()
  return [
    `${processors.length} cores of ${processors[0]?.model ?? 'an unknown processor'}`,
    `${Math.round(totalmem() / 2 ** 30)} GiB of memory`,
    `Linux ${(await runProgram('uname', ['-r'])).stdout.trim()}`,
    `Node ${process.versions.node}`,
    `NGINX ${nginx}`,
    `docker-registry ${registry}`,
    new Date().toISOString().slice(0, 10),
    `load before ${loadavg()[0]?.toFixed(1)}`,
  ].join(', ')
}

async function versionIn(program: string, args: readonly string[]): Promise<string> {
  const { stdout } = await runProgram(program, args)
  return /\d+(?:\.\d+)+/.exec(stdout)?.[0] ?? stdout.trim()
}
