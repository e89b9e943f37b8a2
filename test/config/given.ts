/** Configurations for the tests: the smallest one that is right, and what loading a text gives. */
import {
  type Config,
  ConfigError,
  type Environment,
  formatFault,
  type LoadedConfig,
  loadConfig,
} from '../../src/config.ts'
import { tempFolder } from '../support/temp.ts'

export const SMALLEST = `
version: 1
upstream: { url: "https://registry.primary.example.com" }
auth: { none: }
storage: { filesystem: { rootdirectory: /var/lib/geo-registry } }
`

/** What a file with this text gives. */
export async function loadText(yaml: string, environment: Environment = {}): Promise<LoadedConfig> {
  await using folder = await tempFolder('config')
  return loadConfig({ file: await folder.write('config.yml', yaml), environment })
}

export async function configOf(yaml: string, environment: Environment = {}): Promise<Config> {
  return (await loadText(yaml, environment)).config
}

/** The faults as they are printed, the temporary folder taken out; fails when there are none. */
export async function faultsOf(yaml: string, environment: Environment = {}): Promise<string[]> {
  try {
    await loadText(yaml, environment)
  } catch (error) {
    if (error instanceof ConfigError) {
      return error.faults.map(formatFault).map((line) => line.replace(/\/\S*\/config\.yml/, 'config.yml'))
    }
    throw error
  }
  throw new Error('the configuration was accepted')
}
