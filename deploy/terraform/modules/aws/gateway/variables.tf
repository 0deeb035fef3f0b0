variable "name" {
  description = "Name of the cluster, the same in every region; part of every resource's name."
  type        = string
  default     = "meridian"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", var.name))
    error_message = "Use at most 20 lower-case letters, digits and '-', a letter first: load balancers take 32 in all."
  }
}

variable "region" {
  description = "The region as Meridian knows it: the --region of nodes, and regions[].name of the document."
  type        = string

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", var.region))
    error_message = "Use at most 20 lower-case letters, digits and '-', a letter first."
  }
}

variable "nodes" {
  description = "How many nodes: at least, at most, and for how busy processors (percent) the group aims."
  type = object({
    min         = optional(number, 2)
    max         = optional(number, 4)
    cpu_percent = optional(number, 50)
  })
  default = {}

  validation {
    condition     = var.nodes.min >= 1 && var.nodes.max >= var.nodes.min && var.nodes.max <= 50
    error_message = "At least one, at most 50, and max not below min."
  }

  validation {
    condition     = var.nodes.cpu_percent >= 10 && var.nodes.cpu_percent <= 90
    error_message = "10 to 90 percent; the rest is what carries the load of a neighbour that died."
  }
}

variable "limit_nodes" {
  description = "How many nodes the whole cluster may ever have: limits are cut into that many parts when it begins. The sum of all regions' max."
  type        = number

  validation {
    condition     = var.limit_nodes >= 1 && var.limit_nodes <= 1000
    error_message = "1 to 1000."
  }
}

variable "etcd_endpoints" {
  description = "Client addresses of etcd: module etcd's endpoints."
  type        = list(string)

  validation {
    condition     = length(var.etcd_endpoints) > 0 && alltrue([for url in var.etcd_endpoints : startswith(url, "https://")])
    error_message = "Nodes speak to etcd by https:// only."
  }
}

variable "subnet_ids" {
  description = "Subnets of module network; nodes are spread over them."
  type        = list(string)
}

variable "security_group_id" {
  description = "Group of module network: node_group_id."
  type        = string
}

variable "target_group_arns" {
  description = "Target groups that nodes join: module dns."
  type        = list(string)
  default     = []
}

variable "instance_type" {
  description = "Machine of a node; one gateway worker runs on each core."
  type        = string
  default     = "c6i.large"
}

variable "node_args" {
  description = "Further flags of meridian node, such as --capacity=2000/s."
  type        = string
  default     = ""

  validation {
    condition     = !can(regex("[\"'`$\\\\\n]", var.node_args))
    error_message = "No quotes, dollars, backslashes and line breaks."
  }
}

variable "bundle_url" {
  description = "Where machines fetch the bundle that scripts/bundle made: an HTTPS address that they reach."
  type        = string

  validation {
    condition     = can(regex("^https://[^[:space:]']+$", var.bundle_url))
    error_message = "Write an https:// address."
  }
}

variable "bundle_sha256" {
  description = "SHA-256 of the bundle, as scripts/bundle printed it."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.bundle_sha256))
    error_message = "Write 64 hexadecimal digits, in lower case."
  }
}

variable "authority" {
  description = "Where machines join and renew certificates: https://HOST:9902."
  type        = string

  validation {
    condition     = can(regex("^https://[0-9A-Za-z.:-]+:[0-9]+$", var.authority))
    error_message = "Write https://HOST:PORT."
  }
}

variable "join_token" {
  description = "Token of meridian pki token, good for as many machines as join. It is in user-data and state: let it be good for an hour, and for this region's names and network only."
  type        = string
  sensitive   = true

  validation {
    condition     = can(regex("^mrd1\\.[A-Za-z0-9_-]{43}\\.[0-9a-f]{64}$", var.join_token))
    error_message = "This is no token: make one with meridian pki token."
  }
}

variable "ami_id" {
  description = "Image: Debian 12 or Ubuntu 24.04, or later. Empty: the newest Debian 12, for x86."
  type        = string
  default     = ""
}

variable "key_name" {
  description = "SSH key pair of operators; empty for none."
  type        = string
  default     = ""
}

variable "tags" {
  description = "Further tags of every resource."
  type        = map(string)
  default     = {}
}

